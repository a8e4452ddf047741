"""What is written down of every step, gathered on the device."""

from __future__ import annotations

import torch
from ase import units
from torch import Tensor

from hff_ase.dynamics.engine.integrators import Integrator
from hff_ase.dynamics.engine.state import State, volume
from hff_ase.dynamics.guards import Limits
from hff_ase.potential import Evaluation

COLUMNS = (
    "potential", "kinetic", "conserved", "volume", "pressure", "displacement", "farthest",
    "harmless",
)  # fmt: skip


def column_names(terms: list[str]) -> list[str]:
    """Names of the columns of `measure`."""
    return [*COLUMNS, *terms]


def measure(
    integrator: Integrator, old: State, new: State, evaluation: Evaluation, limits: Limits
) -> tuple[Tensor, Tensor]:
    """The numbers of a step, in ASE units, and whether it was harmless in all systems.

    The pressure is that of atoms and potential, eV/Angstrom^3, nan without a cell; the displacement
    is the largest of an atom in this step, less what the barostat did to all, and ``farthest`` is
    that atom's index in its system.

    Returns:
        [n_systems, n_columns] float64 (see `column_names`) and bool [].
    """
    conditions = integrator.conditions
    space = volume(new.cell)
    trace = new.stress.diagonal(dim1=-2, dim2=-1).sum(-1)
    pressure = (2.0 * new.kinetic / space - trace) / 3.0
    if not conditions.batch.all_periodic:
        pressure = torch.where(conditions.batch.periodic, pressure, torch.nan)
    expected = old.positions
    if integrator.moves_cell:
        stretch = torch.pow(space / volume(old.cell), 1.0 / 3.0)
        expected = expected * conditions.spread(stretch)
    squared, farthest = conditions.largest((new.positions - expected).square().sum(-1))
    displacement = squared.sqrt()
    force, _ = conditions.largest(new.forces.abs().amax(-1))
    # each comparison is false for nan
    harmless = (displacement <= limits.displacement) & (force <= limits.force)
    harmless &= new.kinetic <= 0.5 * conditions.thermal * units.kB * limits.temperature
    columns = [new.energy, new.kinetic, integrator.conserved(new), space, pressure]
    columns += [displacement, farthest.double(), harmless.double()]
    columns += list(evaluation.energy_terms.values())
    return torch.stack(columns, dim=-1), harmless.all()
