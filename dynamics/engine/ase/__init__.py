"""ASE's integrators as an engine, for any ASE calculator."""
