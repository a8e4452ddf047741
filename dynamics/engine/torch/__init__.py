"""Molecular dynamics of many systems at once, on the device where the potential is.

`State` and `Conditions` are flat tensors over all systems; an `Integrator` is two pure functions of
a state, around one evaluation of the forces; a `StepLoop` advances many steps between two looks
from the host. Nothing loops over systems or atoms in Python.
"""

from __future__ import annotations

from hff_ase.dynamics.engine.torch.forces import Forces, SplitForces
from hff_ase.dynamics.engine.torch.integrators import (
    INTEGRATORS,
    MTK,
    SHEARED,
    CellRescaling,
    Integrator,
    Langevin,
    NoseHoover,
)
from hff_ase.dynamics.engine.torch.integrators.respa import Respa, SplitState, split_state
from hff_ase.dynamics.engine.torch.noise import Noise
from hff_ase.dynamics.engine.torch.state import Conditions, State, begin, with_forces
from hff_ase.dynamics.engine.torch.step_loop import StepLoop

__all__ = [
    "INTEGRATORS",
    "MTK",
    "SHEARED",
    "CellRescaling",
    "Conditions",
    "Forces",
    "Integrator",
    "Langevin",
    "Noise",
    "NoseHoover",
    "Respa",
    "SplitForces",
    "SplitState",
    "State",
    "StepLoop",
    "begin",
    "split_state",
    "with_forces",
]
