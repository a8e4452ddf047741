"""Path integral molecular dynamics: i-PI moves the beads, one forward pass evaluates them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hff_ase.dynamics.pimd.config import PIMDConfig
    from hff_ase.dynamics.pimd.pimd_run import PIMDRun

__all__ = ["PIMDConfig", "PIMDRun"]


def __getattr__(name: str) -> Any:
    # Late: the help of the command line reads the settings and needs nothing else.
    if name == "PIMDConfig":
        from hff_ase.dynamics.pimd.config import PIMDConfig

        return PIMDConfig
    if name == "PIMDRun":
        from hff_ase.dynamics.pimd.pimd_run import PIMDRun

        return PIMDRun
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
