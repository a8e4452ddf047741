"""Physical constants and conversions, for the edges (importers, drivers, reports) and for k_e."""

from __future__ import annotations

from ase import units

COULOMB_CONSTANT = 14.399645478  # k_e = e^2 / (4 pi eps0) in eV Angstrom (CODATA 2018)
KCAL_PER_MOL = units.kcal / units.mol  # in eV
HARTREE = units.Hartree  # in eV
BOHR = units.Bohr  # in Angstrom
C6_ATOMIC_UNIT = HARTREE * BOHR**6  # in eV Angstrom^6
BAR = 1e5 * units.Pascal  # in eV/Angstrom^3
GRAM_PER_CM3 = 1e-24 * units.mol  # in amu/Angstrom^3
