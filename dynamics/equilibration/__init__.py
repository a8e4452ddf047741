"""Equilibrated liquids, or the reason why they are not equilibrated yet."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hff_ase.dynamics.equilibration.equilibration_run import EquilibrationRun
    from hff_ase.dynamics.equilibration.equilibration_simulation import UnsettledError
    from hff_ase.dynamics.equilibration.protocol import EquilibrationConfig, Protocol
    from hff_ase.dynamics.equilibration.verdict import Verdict, judge

__all__ = [
    "EquilibrationConfig",
    "EquilibrationRun",
    "Protocol",
    "UnsettledError",
    "Verdict",
    "judge",
]

_HOME = {
    "EquilibrationConfig": "protocol",
    "EquilibrationRun": "equilibration_run",
    "Protocol": "protocol",
    "UnsettledError": "equilibration_simulation",
    "Verdict": "verdict",
    "judge": "verdict",
}


def __getattr__(name: str) -> Any:
    # Late: the help of the command line reads the settings and needs nothing else.
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
