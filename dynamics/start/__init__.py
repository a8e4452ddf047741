"""The start of a run: structure, model and its domain, masses, minimisation."""
