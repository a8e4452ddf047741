"""From runs to the numbers that are reported: analysed, compared with experiment, on one page.

states = read_folder("run/")
analysis = analyse(states, ["density", "viscosity"])
write_analysis(analysis, "run/")
"""

from __future__ import annotations

from hff_ase.dynamics.properties.analysis import Analysis, analyse
from hff_ase.dynamics.properties.folders import read_folder
from hff_ase.dynamics.properties.foreign import from_trajectories
from hff_ase.dynamics.properties.table import write_analysis

__all__ = ["Analysis", "analyse", "from_trajectories", "read_folder", "write_analysis"]
