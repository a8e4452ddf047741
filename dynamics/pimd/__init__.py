"""Path integral molecular dynamics: i-PI moves the beads, one forward pass evaluates them all."""

from __future__ import annotations

from hff_ase.dynamics.pimd.config import PIMDConfig
from hff_ase.dynamics.pimd.pimd_run import PIMDRun

__all__ = ["PIMDConfig", "PIMDRun"]
