"""DFT-D3 dispersion: reference tables, coordination numbers, damping functions, the term."""

from __future__ import annotations

from hff_ase.terms.dispersion.d3 import D3Dispersion

__all__ = ["D3Dispersion"]
