"""Atoms moved by ASE's integrators, with any ASE calculator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.ase.ase_integrator import ASEIntegrator
from hff_ase.dynamics.engine.interface import Arrays, Sample
from hff_ase.dynamics.engine.limits import Limits
from hff_ase.dynamics.engine.momenta import temperature
from hff_ase.terms.uniform_field import clocks_of


def calculator_state(calc: Any) -> Arrays:
    """What the calculator needs to reproduce its results bit for bit (its neighbour list)."""
    return calc.get_state() if hasattr(calc, "get_state") else {}


class ASEEngine:
    """See `Engine`; ``atoms`` are moved in place, one step at a time."""

    def __init__(
        self,
        atoms: Atoms,
        config: MDConfig,
        calc: Any,
        rng: np.random.Generator,
        surroundings: Arrays,
    ) -> None:
        self._atoms, self._config, self._calc, self._rng = atoms, config, calc, rng
        self._limits = Limits.of(config)
        if surroundings:
            calc.set_state(surroundings)
        self._clocks = clocks_of(getattr(calc, "potential", None))
        self._step = 0
        atoms.get_forces()

    @property
    def atoms(self) -> Atoms:
        """The current structure."""
        return self._atoms

    @property
    def results(self) -> Mapping[str, Any]:
        """The calculator's."""
        return dict(self._calc.results)

    def begin(self, ensemble: str, step: int, state: Arrays) -> None:
        """Make a new integrator, or one with the variables of `get_state`."""
        self._step = step
        if self._clocks:
            self._set_clocks(step)
            self._calc.reset()
            self._atoms.get_forces()
        self._integrator = ASEIntegrator(ensemble, self._atoms, self._config, self._rng)
        if state:
            self._integrator.set_state(state)

    def advance(self, n_steps: int) -> list[Sample]:
        """Take one step, whatever ``n_steps`` is: ASE's integrators run on the host."""
        positions, cell = self._atoms.positions.copy(), np.array(self._atoms.cell)
        self._step += 1
        self._set_clocks(self._step)  # forces are evaluated at the end of a step
        self._integrator.step()
        if self._integrator.moves_cell:
            positions = positions @ np.linalg.solve(cell, np.array(self._atoms.cell))
        return [self._sample(positions)]

    def _set_clocks(self, step: int) -> None:
        for clock in self._clocks:
            clock.fill_(step * self._config.timestep * 1e-3)

    def sample(self) -> Sample:
        """The columns of the present atoms."""
        return self._sample(self._atoms.positions)

    def _sample(self, expected: np.ndarray) -> Sample:
        atoms, results, limits = self._atoms, self._calc.results, self._limits
        potential, kinetic = float(results["energy"]), float(atoms.get_kinetic_energy())
        squared = np.square(atoms.positions - expected).sum(axis=1)
        farthest = int(np.argmax(squared))
        displacement, now = float(np.sqrt(squared[farthest])), temperature(kinetic, atoms)
        volume = float(atoms.get_volume()) if atoms.pbc.all() else float("nan")
        tensor: tuple[float, ...] = ()
        if self._config.pressure_interval is not None:
            tensor = pressure_tensor(results.get("stress"), atoms, volume)
        # each comparison is false for nan
        harmless = displacement <= limits.displacement and now <= limits.temperature
        harmless = harmless and float(np.abs(results["forces"]).max()) <= limits.force
        return Sample(
            potential=potential,
            kinetic=kinetic,
            conserved=self._integrator.conserved_energy(potential, kinetic),
            temperature=now,
            pressure=pressure(results.get("stress"), kinetic, volume),
            tensor=tensor,
            volume=volume,
            displacement=displacement,
            farthest=farthest,
            harmless=bool(harmless and np.isfinite(potential)),
            terms=getattr(self._calc, "energy_terms", {}),
        )

    def get_state(self) -> Arrays:
        """The integrator's variables."""
        return self._integrator.get_state()

    def get_surroundings(self) -> Arrays:
        """The calculator's state."""
        return calculator_state(self._calc)


def pressure(stress: np.ndarray | None, kinetic: float, volume: float) -> float:
    """Pressure from the stress (Voigt or 3x3), eV/A^3, and the kinetic energy, eV."""
    if stress is None:
        return float("nan")
    trace = np.trace(stress) if np.shape(stress) == (3, 3) else np.sum(np.asarray(stress)[:3])
    return float(2 * kinetic / (3 * volume) - trace / 3)


def pressure_tensor(stress: np.ndarray | None, atoms: Atoms, volume: float) -> tuple[float, ...]:
    """Pressure tensor xx, yy, zz, yz, xz, xy, eV/A^3, from the stress (Voigt or 3x3) and momenta;
    empty where there is no stress."""
    if stress is None:
        return ()
    voigt = full_3x3_to_voigt_6_stress(stress) if np.shape(stress) == (3, 3) else stress
    momenta = atoms.get_momenta()
    flow = momenta.T @ (momenta / atoms.get_masses()[:, None]) / volume
    return tuple((full_3x3_to_voigt_6_stress(flow) - np.asarray(voigt)).tolist())
