"""Integrators by ensemble: velocity Verlet, its thermostats and barostats, and inner time steps."""

from __future__ import annotations

from hff_ase.dynamics.engine.torch.integrators.cell_rescaling import CellRescaling
from hff_ase.dynamics.engine.torch.integrators.langevin import Langevin
from hff_ase.dynamics.engine.torch.integrators.mtk import MTK
from hff_ase.dynamics.engine.torch.integrators.nose_hoover import NoseHoover
from hff_ase.dynamics.engine.torch.integrators.sheared import Sheared
from hff_ase.dynamics.engine.torch.integrators.velocity_verlet import Integrator

INTEGRATORS: dict[str, type[Integrator]] = {
    "nve": Integrator,
    "nvt": Langevin,
    "nvt-nhc": NoseHoover,
    "npt": MTK,
    "npt-scr": CellRescaling,
}
SHEARED: dict[str, type[Integrator]] = {"nvt-nhc": Sheared}  # the same of liquids that flow
