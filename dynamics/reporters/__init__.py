"""Output of a run: statistics, frames, plots, the folder, the screen."""

from __future__ import annotations

from hff_ase.dynamics.reporters.statistics import read_statistics

__all__ = ["read_statistics"]
