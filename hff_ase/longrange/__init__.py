"""Lattice sums of 1/r for given charges."""
