"""How ASE users hold and tune a hybrid force field."""

from __future__ import annotations

from hff_ase.calculators.hybrid import HybridFF

__all__ = ["HybridFF"]
