"""Lattice sums of 1/r: how to sum, without knowing whose charges they are."""
