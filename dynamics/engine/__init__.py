"""Molecular dynamics of many systems at once, on the device where the potential is.

`State` and `Conditions` are flat tensors over all systems; an `Integrator` is two pure functions of
a state, around one evaluation of the forces; a `Loop` advances many steps between two looks from
the host. Nothing loops over systems or atoms in Python.
"""

from __future__ import annotations

from hff_ase.dynamics.engine.forces import Forces, SplitForces
from hff_ase.dynamics.engine.integrators import Integrator
from hff_ase.dynamics.engine.langevin import Langevin
from hff_ase.dynamics.engine.loop import Loop
from hff_ase.dynamics.engine.mtk import MTK
from hff_ase.dynamics.engine.noise import Noise
from hff_ase.dynamics.engine.nose_hoover import NoseHoover
from hff_ase.dynamics.engine.rescaling import CellRescaling
from hff_ase.dynamics.engine.respa import Respa, SplitState, split
from hff_ase.dynamics.engine.state import Conditions, State, begin, with_forces

INTEGRATORS: dict[str, type[Integrator]] = {
    "nve": Integrator,
    "nvt": Langevin,
    "nvt-nhc": NoseHoover,
    "npt": MTK,
    "npt-scr": CellRescaling,
}

__all__ = [
    "INTEGRATORS",
    "MTK",
    "CellRescaling",
    "Conditions",
    "Forces",
    "Integrator",
    "Langevin",
    "Loop",
    "Noise",
    "NoseHoover",
    "Respa",
    "SplitForces",
    "SplitState",
    "State",
    "begin",
    "split",
    "with_forces",
]
