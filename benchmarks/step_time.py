"""Time of one MD step (energy, forces, stress) split by term, on the CPU.

    python benchmarks/step_time.py --model electrolyte-preview --atoms 4116

The neighbour list is reused under its skin as in MD, between small random moves. A term's share is
what the step grows by when the term is added. Two yardsticks measured in the same run make numbers
from different machines comparable: a matrix product and a memory copy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hff_ase import HybridFF
from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.build import build_box
from hff_ase.potential import HybridPotential


def median_ms(function: Callable[[], object], repeats: int) -> float:
    """Median wall time of some calls after one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def step_ms(potential: HybridPotential, batch: AtomsBatch, skin: float, repeats: int) -> float:
    """Median time of a step whose neighbours are those of the last one."""
    neighbors = potential.neighbor_list(skin)
    neighbors.update(batch)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        noise = torch.randn(batch.positions.shape, generator=generator, dtype=torch.float64)
        potential(batch.moved(batch.positions + 1e-3 * noise), neighbors)

    return median_ms(step, repeats)


def main() -> None:
    """Print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="electrolyte-preview")
    parser.add_argument("--recipe", default="1.0 M LiPF6 in EC:DMC 1:1 v/v")
    parser.add_argument("--atoms", type=int, default=4116)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skin", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(args.threads)
    potential = HybridFF.load(args.model).potential
    batch = AtomsBatch.from_atoms(build_box(args.recipe, args.atoms))
    names = [name for name, _ in potential.named_terms()]
    totals = [
        step_ms(potential.subset(names[: k + 1]), batch, args.skin, args.repeats)
        for k in range(len(names))
    ]
    neighbors = potential.neighbor_list(args.skin)
    a, big = torch.randn(1024, 1024), torch.randn(64 * 1024 * 1024)
    result = {
        "atoms": batch.n_atoms,
        "threads": args.threads,
        "step_ms": totals[-1],
        "terms_ms": dict(zip(names, np.diff(totals, prepend=0.0).tolist(), strict=True)),
        "neighbor_rebuild_ms": median_ms(lambda: neighbors.build(batch), 3),
        "matmul_gflops": 2 * 1.024**3 / (1e-3 * median_ms(lambda: a @ a, 20)),
        "copy_gb_per_s": 0.5 * 1.073741824 / (1e-3 * median_ms(big.clone, 10)),
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
