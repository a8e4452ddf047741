"""Molecular dynamics of one structure, from a configuration to a folder of results."""

from __future__ import annotations

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.md.md_run import MDRun

__all__ = ["MDConfig", "MDRun"]
