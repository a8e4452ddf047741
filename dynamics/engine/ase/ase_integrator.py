"""Which ASE integrator moves the atoms in which ensemble, and its state as plain arrays.

The total momentum of a run is zero and stays zero, so 3N - 3 momenta are thermal. ASE counts 3N
in its Nose-Hoover chains and leaves a liquid of N atoms hotter by N/(N-1); here the chains are
told 3N - 3. Langevin dynamics holds the centre of mass with ``ase.constraints.FixCom`` (ASE's own
``fixcm`` option does not sample the canonical distribution and is deprecated): projecting the
centre of mass out of Langevin dynamics with one friction for all leaves the rest of it exact.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet

from hff_ase.dynamics.config import DEFAULT_PRESSURE, MDConfig
from hff_ase.dynamics.engine.momenta import degrees_of_freedom
from hff_ase.units import BAR

CHAIN = ("_q", "_p", "_thermostat._eta", "_thermostat._p_eta")
BAROSTAT = ("_eps", "_p_eps", "_volume0", "_cell0", "_barostat._xi", "_barostat._p_xi")
INTERNALS = {"nve": (), "nvt": (), "nvt-nhc": CHAIN, "npt": CHAIN + BAROSTAT}


class ASEIntegrator:
    """Moves ``atoms`` in one ensemble; the state between steps can be taken out and put back."""

    def __init__(
        self, ensemble: str, atoms: Atoms, config: MDConfig, rng: np.random.Generator
    ) -> None:
        atoms.set_constraint(FixCom() if ensemble == "nvt" else None)
        self.ensemble = ensemble
        self._dynamics: Any = MAKERS[ensemble](atoms, config, rng)
        self.step: Callable[[], object] = self._dynamics.step

    @property
    def moves_cell(self) -> bool:
        """Whether steps change the cell."""
        return self.ensemble == "npt"

    def conserved_energy(self, potential: float, kinetic: float) -> float:
        """The quantity that exact dynamics conserves, eV; nan for Langevin dynamics."""
        if self.ensemble == "nvt":
            return float("nan")
        total = potential + kinetic
        dynamics = self._dynamics
        if self.ensemble in ("nvt-nhc", "npt"):
            total += dynamics._thermostat.get_thermostat_energy()
        if self.ensemble == "npt":
            total += dynamics._barostat.get_barostat_energy()
            total += dynamics._p_eps**2 / (2 * dynamics._barostat.W)
            total += dynamics._pressure_au * dynamics._get_volume()
        return float(total)

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of the internal variables, by name."""
        return {
            name: np.array(attrgetter(name)(self._dynamics)) for name in INTERNALS[self.ensemble]
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Put back what `get_state` gave."""
        for name in INTERNALS[self.ensemble]:
            *path, last = name.split(".")
            owner = attrgetter(".".join(path))(self._dynamics) if path else self._dynamics
            value = state[name]
            setattr(owner, last, float(value) if value.ndim == 0 else value.copy())


def _nve(atoms: Atoms, config: MDConfig, rng: np.random.Generator) -> MolecularDynamics:
    return VelocityVerlet(atoms, config.timestep * units.fs)


def _langevin(atoms: Atoms, config: MDConfig, rng: np.random.Generator) -> MolecularDynamics:
    return Langevin(
        atoms,
        config.timestep * units.fs,
        temperature_K=config.temperature,
        friction=config.friction / (1000 * units.fs),
        fixcm=False,
        rng=rng,
    )


def _nose_hoover(atoms: Atoms, config: MDConfig, rng: np.random.Generator) -> MolecularDynamics:
    dynamics = NoseHooverChainNVT(
        atoms, config.timestep * units.fs, config.temperature, config.tdamp * units.fs
    )
    _count_thermal_momenta(dynamics, atoms)
    return dynamics


def _mtk(atoms: Atoms, config: MDConfig, rng: np.random.Generator) -> MolecularDynamics:
    pressure = DEFAULT_PRESSURE if config.pressure is None else config.pressure
    dynamics = IsotropicMTKNPT(
        atoms,
        config.timestep * units.fs,
        config.temperature,
        pressure * BAR,
        config.tdamp * units.fs,
        config.pdamp * units.fs,
    )
    _count_thermal_momenta(dynamics, atoms)
    # d/N_f of Martyna, Tobias and Klein (1994), eq. 2.6, is 1/(N - 1) with N_f = 3N - 3
    dynamics._num_atoms_global = len(atoms) - 1
    return dynamics


def _count_thermal_momenta(dynamics: Any, atoms: Atoms) -> None:
    thermostat = dynamics._thermostat
    thermostat._num_atoms_global = len(atoms) - 1
    thermostat._Q[0] = degrees_of_freedom(atoms) * thermostat._kT * thermostat._tdamp**2


MAKERS: dict[str, Callable[[Atoms, MDConfig, np.random.Generator], Any]] = {
    "nve": _nve,
    "nvt": _langevin,
    "nvt-nhc": _nose_hoover,
    "npt": _mtk,
}
