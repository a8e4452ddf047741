"""Liquids that have forgotten how they were packed, or the reason why not yet."""

from __future__ import annotations

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
