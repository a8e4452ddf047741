"""Which ASE integrator moves the atoms in which ensemble, and its state as plain arrays.

The total momentum of a run is zero and stays zero, so 3N - 3 momenta are thermal. ASE counts 3N
in its Nose-Hoover chains and leaves a liquid of N atoms hotter by N/(N-1); here the chains are
told 3N - 3. Langevin dynamics holds the centre of mass with ``ase.constraints.FixCom`` (ASE's own
``fixcm`` option does not sample the canonical distribution and is deprecated): projecting the
centre of mass out of Langevin dynamics with one friction for all leaves the rest of it exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet

from hff_ase.dynamics.config import DEFAULT_PRESSURE, MDConfig
from hff_ase.dynamics.engine.ase.ase_internals import (
    VARIABLES,
    get_variables,
    refuse_other_ase,
    set_thermal_momenta,
    set_variables,
    with_bath_energy,
)
from hff_ase.units import BAR


class ASEIntegrator:
    """Moves ``atoms`` in one ensemble; the state between steps can be taken out and put back."""

    def __init__(
        self, ensemble: str, atoms: Atoms, config: MDConfig, rng: np.random.Generator
    ) -> None:
        atoms.set_constraint(FixCom() if ensemble == "nvt" else None)
        self.ensemble = ensemble
        self._dynamics: Any = MAKERS[ensemble](atoms, config, rng)
        refuse_other_ase(self._dynamics, ensemble)
        if VARIABLES[ensemble]:
            set_thermal_momenta(self._dynamics, ensemble, len(atoms))
        self.step: Callable[[], object] = self._dynamics.step

    @property
    def moves_cell(self) -> bool:
        """Whether steps change the cell."""
        return self.ensemble == "npt"

    def conserved_energy(self, potential: float, kinetic: float) -> float:
        """The quantity that exact dynamics conserves, eV; nan for Langevin dynamics."""
        if self.ensemble == "nvt":
            return float("nan")
        return with_bath_energy(self._dynamics, self.ensemble, potential + kinetic)

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of the internal variables, by name."""
        return get_variables(self._dynamics, self.ensemble)

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Put back what `get_state` gave."""
        set_variables(self._dynamics, self.ensemble, state)


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
    return NoseHooverChainNVT(
        atoms, config.timestep * units.fs, config.temperature, config.tdamp * units.fs
    )


def _mtk(atoms: Atoms, config: MDConfig, rng: np.random.Generator) -> MolecularDynamics:
    pressure = DEFAULT_PRESSURE if config.pressure is None else config.pressure
    return IsotropicMTKNPT(
        atoms,
        config.timestep * units.fs,
        config.temperature,
        pressure * BAR,
        config.tdamp * units.fs,
        config.pdamp * units.fs,
    )


MAKERS: dict[str, Callable[[Atoms, MDConfig, np.random.Generator], Any]] = {
    "nve": _nve,
    "nvt": _langevin,
    "nvt-nhc": _nose_hoover,
    "npt": _mtk,
}
