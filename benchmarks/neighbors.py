"""Time of neighbour searches, of the check in every step and of the order of atoms, on a CPU.

python benchmarks/neighbors.py --atoms 4116 --threads 1
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numba
import numpy as np
import torch
from vesin import NeighborList as VesinNeighborList

from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.build import build_box
from hff_ase.kernels.rows.cpu import rows_of
from hff_ase.kernels.rows.order import spatial_order
from hff_ase.neighbor_search import half_list, rows_by_numpy, search_on_host
from hff_ase.neighbors import NeighborList
from hff_ase.pairs import PairRequest


def least_ms(function: Callable[[], object], repeats: int = 7) -> float:
    """Least wall time of some calls after one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def parts(batch: AtomsBatch, cutoff: float, half: bool) -> dict[str, float]:
    """Times in ms of what one search of one system consists of."""
    engine = VesinNeighborList(cutoff=cutoff, full_list=False)
    system = (batch.positions.numpy(), batch.cell[0].numpy(), bool(batch.periodic[0]))
    n = batch.n_atoms
    pair, image = (part.copy() for part in half_list(engine, *system))
    name = f"{'half' if half else 'full'}_{cutoff:g}_"
    return {
        name + "vesin": least_ms(lambda: half_list(engine, *system)),
        name + "rows": least_ms(lambda: rows_of(pair, image, n, half)),
        name + "rows_numpy": least_ms(lambda: rows_by_numpy(pair, image, n, half), 3),
    }


def one_search(batch: AtomsBatch) -> None:
    """The rows of both requests from one search of one system, the shorter ones cut out."""
    engine = VesinNeighborList(cutoff=11.0, full_list=False, n_threads=torch.get_num_threads())
    system = (batch.positions.numpy(), batch.cell[0].numpy(), bool(batch.periodic[0]))
    pair, image, distance = engine.compute(*system, "PSd", copy=False)
    pair = pair.view(np.int64)
    near = np.flatnonzero(distance < 6.0)
    rows_of(pair, image, batch.n_atoms, True)
    rows_of(pair[near], image[near], batch.n_atoms, False)


def measure(batch: AtomsBatch) -> dict[str, float]:
    """Times in ms of what a list with the requests of a network and a pair term does."""
    requests = (PairRequest(5.0, "full"), PairRequest(10.0, "half"))
    neighbors = NeighborList(requests, skin=1.0)

    def rebuild() -> None:
        neighbors.build(batch)
        for request in requests:
            neighbors.rows(request)

    rebuild()
    same = batch.moved(batch.positions + 1e-3)
    strained = batch.moved(1.0001 * batch.positions, 1.0001 * batch.cell)
    rows = [neighbors.rows(request) for request in requests]
    size = sum(16 * r.j.shape[0] + 8 * batch.n_atoms for r in rows)
    return {
        "rebuild": least_ms(rebuild),
        "half_11": least_ms(lambda: search_on_host(batch, 11.0, True)),
        "full_6": least_ms(lambda: search_on_host(batch, 6.0, False)),
        "check": least_ms(lambda: neighbors.update(same), 100),
        "check_new_cell": least_ms(lambda: neighbors.update(strained), 100),
        "order": least_ms(lambda: spatial_order(batch)),
        "bytes_per_atom": size / batch.n_atoms,
    }


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="1.0 M LiPF6 in EC:DMC 1:1 v/v")
    parser.add_argument("--atoms", type=int, default=4116)
    parser.add_argument("--boxes", type=int, default=1, help="copies of the box in one batch")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    numba.set_num_threads(args.threads)
    atoms = build_box(args.recipe, args.atoms)
    batch = AtomsBatch.from_atoms([atoms] * args.boxes)
    batched = {"atoms": batch.n_atoms, "threads": args.threads}
    batched["from_atoms"] = least_ms(lambda: AtomsBatch.from_atoms([atoms] * args.boxes), 100)
    results = batched | measure(batch)
    if args.boxes == 1:
        results |= parts(batch, 11.0, True) | parts(batch, 6.0, False)
        results["one_search_for_both"] = least_ms(lambda: one_search(batch))
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
