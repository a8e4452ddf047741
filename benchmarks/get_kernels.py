"""Time the fused GET network on the CPU, kernel by kernel: forward and gradient of a liquid box.

    python benchmarks/get_kernels.py --atoms 4116 --threads 1 2

Prints, for each preset, the shortest and the median time of a whole evaluation and the shortest of
each kernel call in order, with its floating-point operations per second (a product and a sum count
as two, a sigmoid as 20). The reference layers are timed next to it.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.build import build_box
from hff_ase.kernels.get import cpu
from hff_ase.kernels.get.network import fused_get
from hff_ase.neighbors import NeighborList
from hff_ase.nets.get import GET
from hff_ase.nets.presets import PRESETS
from hff_ase.pairs import PairRequest

# Operations per edge and channel: table, products and sums of the edge sums (see cpu_messages);
# those with vectors, and those with gradients of queries, keys and values, come on top.
FORWARD, FORWARD_VECTORS = 11, 6
BACKWARD, BACKWARD_VECTORS, BACKWARD_NODES = 33, 24, 6
SIGMOID = 20


def times_ms(function: Callable[[], Any], repeats: int) -> list[float]:
    """Sorted times of one call, after two that do not count."""
    out = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function()
        out.append(1e3 * (time.perf_counter() - start))
    return sorted(out[2:])


def gradient(features: Callable[[AtomsBatch], torch.Tensor], batch: AtomsBatch) -> None:
    """Features and the derivatives of their sum by positions and cell."""
    positions = batch.positions.detach().requires_grad_()
    cell = batch.cell.detach().requires_grad_()
    torch.autograd.grad(features(batch.moved(positions, cell)).sum(), (positions, cell))


def operations(net: GET, n_atoms: int, n_edges: int) -> list[tuple[str, float]]:
    """Name and operations of each kernel call of one evaluation, in order."""
    C, heads = net.channels, net.options["heads"]
    n_layers = net.options["layers"]
    forward: list[tuple[str, float]] = [("find edges", 40.0 * n_edges)]
    backward: list[tuple[str, float]] = []
    for k in range(n_layers):
        first, last = k == 0, k == n_layers - 1
        parts = 1 if first else 2 if last else 3
        dense = 2.0 * n_atoms * parts * C * C * (1 if first else 4)
        message = n_edges * (C * (FORWARD + (not last) * FORWARD_VECTORS) + heads * SIGMOID)
        per_channel = BACKWARD + (not last) * BACKWARD_VECTORS + (not first) * BACKWARD_NODES
        back = n_edges * (C * per_channel + 2 * heads * SIGMOID)
        project = 2.0 * n_atoms * 3 * C * C
        name = f"layer {k + 1} "
        own = [(name + "messages", message), (name + "nodes", dense)]
        forward += own if first else [(name + "q, k, v", project), *own]
        turned = [(name + "nodes, backward", dense), (name + "messages, backward", back)]
        backward = turned + ([] if first else [(name + "q, k, v, backward", project)]) + backward
    return forward + backward


def kernel_times(step: Callable[[], None], repeats: int) -> list[float]:
    """The shortest time of each kernel call of a step, in order, ms."""
    calls: dict[int, list[float]] = defaultdict(list)
    count = 0
    share = cpu.share

    def timed(kernel: Callable[..., None], n_atoms: int, *args: Any) -> None:
        nonlocal count
        start = time.perf_counter()
        share(kernel, n_atoms, *args)
        calls[count].append(1e3 * (time.perf_counter() - start))
        count += 1

    cpu.share = timed
    try:
        for _ in range(repeats):
            count = 0
            step()
    finally:
        cpu.share = share
    return [min(values) for _, values in sorted(calls.items())]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="1.0 M LiPF6 in EC:DMC 1:1 v/v")
    parser.add_argument("--atoms", type=int, default=4116)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--skin", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--reference", action="store_true", help="time the torch layers too")
    args = parser.parse_args()
    keep_memory()
    atoms = build_box(args.recipe, args.atoms)
    kinds = np.unique(atoms.numbers)
    species = torch.as_tensor(np.searchsorted(kinds, atoms.numbers))
    batch = AtomsBatch.from_atoms(atoms)
    for name in args.presets:
        net = GET(len(kinds), **PRESETS[name]).requires_grad_(False)
        request = PairRequest(net.cutoff, "full")
        neighbors = NeighborList([request], args.skin)
        neighbors.update(batch)
        rows = neighbors.rows(request)
        n_edges = neighbors.bind(batch).pairs(request).i.shape[0]

        def fused(moved: AtomsBatch, net: GET = net, rows: Any = rows) -> torch.Tensor:
            return fused_get(net, species, moved, rows, "numba")

        def layers(
            moved: AtomsBatch, net: GET = net, neighbors: NeighborList = neighbors
        ) -> torch.Tensor:
            pairs = neighbors.bind(moved).pairs(PairRequest(net.cutoff, "full"))
            return net(species, pairs.i, pairs.j, pairs.vector.float())

        for threads in args.threads:
            torch.set_num_threads(threads)
            total = times_ms(lambda f=fused: gradient(f, batch), args.repeats)
            print(
                f"{name}: {batch.n_atoms} atoms, {n_edges} edges, {threads} thread(s): "
                f"{total[0]:.2f} ms, median {total[len(total) // 2]:.2f} ms"
            )
            parts = kernel_times(lambda f=fused: gradient(f, batch), args.repeats)
            work = operations(net, batch.n_atoms, n_edges)
            for (label, flops), ms in zip(work, parts, strict=True):
                print(f"    {label:28s} {ms:8.3f} ms {1e-6 * flops / ms:8.1f} GFLOP/s")
            if args.reference:
                slow = times_ms(lambda f=layers: gradient(f, batch), 3)
                print(f"    {'reference layers':28s} {slow[0]:8.1f} ms")


if __name__ == "__main__":
    main()
