"""Many runs of molecular dynamics, of liquids at state points, on the workers of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hff_ase.dynamics.sweep.config import SweepSettings
    from hff_ase.dynamics.sweep.sweep import run_sweep

__all__ = ["SweepSettings", "run_sweep"]


def __getattr__(name: str) -> Any:
    # Late: the help of the command line reads the settings and needs nothing else.
    if name == "SweepSettings":
        from hff_ase.dynamics.sweep.config import SweepSettings

        return SweepSettings
    if name == "run_sweep":
        from hff_ase.dynamics.sweep.sweep import run_sweep

        return run_sweep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
