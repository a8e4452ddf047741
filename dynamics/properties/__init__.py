"""From runs to the numbers that are reported: analysed, compared with experiment, on one page.

states = read_folder("run/")
analysis = analyse(states, ["density", "viscosity"])
write_analysis(analysis, "run/")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hff_ase.dynamics.properties.analysis import Analysis, analyse
    from hff_ase.dynamics.properties.folders import read_folder
    from hff_ase.dynamics.properties.foreign import from_trajectories
    from hff_ase.dynamics.properties.property_run import PropertyRun
    from hff_ase.dynamics.properties.request import Request
    from hff_ase.dynamics.properties.table import write_analysis

__all__ = [
    "Analysis",
    "PropertyRun",
    "Request",
    "analyse",
    "from_trajectories",
    "read_folder",
    "write_analysis",
]

_HOME = {
    "Analysis": "analysis",
    "PropertyRun": "property_run",
    "Request": "request",
    "analyse": "analysis",
    "from_trajectories": "foreign",
    "read_folder": "folders",
    "write_analysis": "table",
}


def __getattr__(name: str) -> Any:
    # Late: the help of the command line reads the settings and needs nothing else.
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
