"""The quantities recorded at every step, collected on the device."""

from __future__ import annotations

import torch
from ase import units
from torch import Tensor

from hff_ase.dynamics.engine.limits import Limits
from hff_ase.dynamics.engine.torch.integrators.velocity_verlet import Integrator
from hff_ase.dynamics.engine.torch.state import Conditions, State, volume
from hff_ase.passes import Evaluation

TENSOR = tuple(f"pressure_{plane}" for plane in ("xx", "yy", "zz", "yz", "xz", "xy"))
VOIGT = (0, 4, 8, 5, 2, 1)  # where those planes are among nine
COLUMNS = (
    "potential", "kinetic", "conserved", "volume", "pressure", "displacement", "farthest",
    "harmless",
)  # fmt: skip


FLOW = "flow"


def column_names(terms: list[str], tensor: bool, flow: bool) -> list[str]:
    """Names of the columns of `measure`."""
    return [*COLUMNS, *(TENSOR if tensor else ()), *((FLOW,) if flow else ()), *terms]


def measure(
    integrator: Integrator,
    old: State,
    new: State,
    evaluation: Evaluation,
    limits: Limits,
    tensor: bool,
) -> tuple[Tensor, Tensor]:
    """The numbers of a step, in ASE units, and whether it was harmless in all systems.

    The pressure, and its tensor where it is asked for (see `pressure_tensor`), are those of atoms
    and potential, eV/Angstrom^3, nan without a cell; the displacement is the largest of an atom in
    this step, less what the barostat did to all, and ``farthest`` is that atom's index in its
    system.

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
    if tensor:
        planes = pressure_tensor(conditions, new, space).flatten(1).unbind(-1)
        columns += [planes[plane] for plane in VOIGT]
    if integrator.has_flow:
        columns.append(integrator.flow(new))
    columns += list(evaluation.energy_terms.values())
    return torch.stack(columns, dim=-1), harmless.all()


def pressure_tensor(conditions: Conditions, state: State, space: Tensor) -> Tensor:
    r"""The pressure tensor of atoms and potential, nan without a cell.

    .. math:: P_{ab} = \frac{1}{V} \sum_i \frac{p_{ia} p_{ib}}{m_i} - \sigma_{ab}
        + \delta_{ab} \frac{2}{3V} (K - K_p)

    Momenta and stress are of the same instant, the end of the step. What the momenta there are too
    cold (see `integrators`) is added to the diagonal, :math:`K` being the kinetic energy that is
    reported and :math:`K_p` that of the momenta: a third of the trace is the reported pressure.

    Args:
        conditions: masses and systems.
        state: after a step.
        space: volumes [n_systems], Angstrom^3.

    Returns:
        [n_systems, 3, 3], eV/Angstrom^3.
    """
    # few operations: on a GPU each costs as much as one over all atoms of a force
    pad = conditions.batch.pad
    flow = torch.bmm(pad(state.momenta).mT, pad(state.momenta / conditions.masses))
    diagonal = flow.diagonal(dim1=-2, dim2=-1)
    diagonal += ((2.0 * state.kinetic - diagonal.sum(-1)) / 3.0)[:, None]
    tensor = flow / space[:, None, None] - state.stress
    if conditions.batch.all_periodic:
        return tensor
    return torch.where(conditions.batch.periodic[:, None, None], tensor, torch.nan)
