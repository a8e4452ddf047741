"""Loading the start of a run: the structure and its masses, the model, further models."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.cell import Cell

from hff_ase import reading, structures
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.reporters.trajectory_files import check_format
from hff_ase.errors import ConfigError, StructureError
from hff_ase.terms.term import Term


def load_calculator(config: MDConfig) -> Calculator:
    """The calculator that the settings name."""
    from hff_ase.calculators.hybrid import HybridFF

    if config.model is None:
        raise ConfigError("expected a model (a name or an .hff file), got none")
    further = {"field": external_field(config)} if config.field else {}
    return HybridFF.load(
        config.model,
        device=config.device,
        dtype=config.dtype,
        without=config.without,
        further=further,
    )


def external_field(config: MDConfig) -> Term:
    """The field of the settings, on the ions that the library and the table of formulas know."""
    from hff_ase.dynamics.build.library import ions
    from hff_ase.labels.molecules import FORMAL_CHARGES
    from hff_ase.terms import UniformField

    known: dict[str, float] = {name: float(charge) for name, charge in FORMAL_CHARGES.items()}
    known |= {"".join(one.symbols): float(one.charge) for one in ions().values()}
    return UniformField(config.field, known, config.field_frequency)


def load_members(config: MDConfig) -> list[Calculator]:
    """The further models of the committee, set up as the model of the run."""
    names = config.committee
    return [load_calculator(config.model_copy(update={"model": name})) for name in names]


def read_start(config: MDConfig) -> Atoms:
    """The starting structure, the last frame of its file.

    Raises:
        ConfigError: no structure is given.
        StructureError: the file cannot be read.
    """
    if config.structure is None:
        raise ConfigError("expected a structure file, got none")
    return reading.read_structure(config.structure)


def check_start(atoms: Atoms, config: MDConfig) -> None:
    """Refuse a structure that these settings cannot move.

    Raises:
        StructureError: too few atoms, constraints, what `hff_ase.structures.check_structure`
            refuses, or a cell that the trajectory's format cannot hold.
        ConfigError: a changing volume or a pressure tensor without a periodic cell, a shear
            without a right-angled one, or no library for the trajectory's format.
    """
    if len(atoms) < 2:
        raise StructureError(f"expected at least two atoms, got {len(atoms)}")
    reading.refuse_constraints(atoms)
    structures.check_structure(atoms)
    if config.needs_cell and not atoms.pbc.all():
        raise ConfigError("expected a periodic box for npt, got a structure without one")
    if config.pressure_interval is not None and not atoms.pbc.all():
        raise ConfigError("expected a periodic box for pressure_interval, got a structure without")
    if config.shear and not (atoms.pbc.all() and is_diagonal(atoms.cell)):
        raise ConfigError("expected a right-angled periodic box, edges along x, y, z, for shear")
    check_format(config.trajectory_format, atoms)
    if config.velocities == "file" and not atoms.has("momenta"):
        raise ConfigError("expected momenta in the structure for velocities=file, got none")


def is_diagonal(cell: Cell) -> bool:
    """Whether the edges of a cell lie along x, y and z."""
    return bool(np.abs(cell - np.diag(np.diag(cell))).max() < 1e-9 * np.abs(cell).max())


def with_heavy_hydrogen(atoms: Atoms, config: MDConfig) -> Atoms:
    """A copy with the masses of ``config.hydrogen_mass``; the structure itself without it.

    Momenta that are there are scaled by the root of the mass: what was a Maxwell-Boltzmann
    distribution is one of the same temperature.

    Raises:
        StructureError: a hydrogen without a neighbour, or a heavy atom that would be too light.
    """
    if config.hydrogen_mass is None:
        return atoms
    from hff_ase.dynamics.start.masses import repartition

    copy = atoms.copy()
    before = copy.get_masses()
    masses = repartition(copy, config.hydrogen_mass)
    copy.set_masses(masses)
    if copy.has("momenta"):
        copy.set_momenta(copy.get_momenta() * np.sqrt(masses / before)[:, None])
    return copy
