"""What moves the atoms, one step after another: our own engine on torch, or ASE's integrators.

`interface` says what a run asks of an engine; ``torch/`` holds the loop of steps and the
integrators with their thermostats and barostats, for many systems at once; ``ase/`` wraps those of
ASE, for any calculator. torch is imported only where the engine on it is made.
"""
