"""The ASE calculator of a hybrid force field, and its fine-tuning."""

from __future__ import annotations

from hff_ase.calculators.committee import Committee
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.calculators.results import results_to_atoms

__all__ = ["Committee", "HybridFF", "results_to_atoms"]
