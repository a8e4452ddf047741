"""Molecules of a molecular force field: templates, and which of their sites atoms are."""
