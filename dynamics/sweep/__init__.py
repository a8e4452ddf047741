"""Many runs of molecular dynamics, liquids at state points, on the workers of a cluster."""

from hff_ase.dynamics.sweep.config import SweepSettings
from hff_ase.dynamics.sweep.sweep import run_sweep

__all__ = ["SweepSettings", "run_sweep"]
