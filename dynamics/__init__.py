"""Dynamics with the potential, and what is measured along it."""
