"""Charges, dipoles and quadrupoles: interactions of pairs, the smooth part of the lattice sum."""
