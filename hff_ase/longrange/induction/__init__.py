"""Induced dipoles: the problem, its solvers and what they start from."""
