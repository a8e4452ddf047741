"""Time of E3Net per box: forces, and a training step on forces, fused and in plain torch.

    OMP_NUM_THREADS=1 python benchmarks/e3_layers.py [--atoms 160] [--channels 32] [--json OUT]

A random periodic box at the density of a liquid (0.1 atoms/A^3); the fastest of several calls.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hff_ase.nets import NETWORKS, Network

CUTOFF, DENSITY = 5.0, 0.1
SIZES: dict[str, dict[str, Any]] = {
    "e3 l_max 0, 3 layers": {"l_max": 0, "layers": 3},
    "e3 l_max 1, 3 layers": {"l_max": 1, "layers": 3},
    "e3 l_max 2, 3 layers": {"l_max": 2, "layers": 3},
    "e3 l_max 1, 2 layers": {"l_max": 1, "layers": 2},
    "e3 l_max 1, 2 layers, correlation 3": {"l_max": 1, "layers": 2, "correlation": 3},
    "e3 l_max 0, l_edge 2, 2 layers, correlation 3": {
        "l_max": 0, "l_edge": 2, "layers": 2, "correlation": 3,
    },
    "get 3 layers": {"layers": 3},
}  # fmt: skip
Box = tuple[Tensor, Tensor, Tensor, Tensor]


def make_box(n_atoms: int, seed: int = 0) -> Box:
    """Species, receivers, senders and vectors of a random box."""
    generator = torch.Generator().manual_seed(seed)
    length = (n_atoms / DENSITY) ** (1 / 3)
    positions = length * torch.rand(n_atoms, 3, generator=generator)
    vector = positions[None] - positions[:, None]
    vector = vector - length * torch.round(vector / length)
    near = (torch.linalg.vector_norm(vector, dim=-1) < CUTOFF).fill_diagonal_(False)
    i, j = torch.nonzero(near).T
    species = torch.randint(4, (n_atoms,), generator=generator)
    return species, i, j, vector[i, j]


def forces(net: Network, box: Box, create_graph: bool) -> Tensor:
    """Forces [n_atoms, 3] of the sum of all features."""
    species, i, j, vector = box
    moved = torch.zeros(len(species), 3, requires_grad=True)
    energy = net(species, i, j, vector + moved[j] - moved[i]).sum()
    return -torch.autograd.grad(energy, moved, create_graph=create_graph)[0]


def train_step(net: Network, box: Box) -> None:
    """Gradient of the mean square force in the parameters."""
    forces(net, box, True).square().mean().backward()


def fastest(function: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest call after two."""
    function(), function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=160)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()
    box = make_box(args.atoms)
    print(f"{args.atoms} atoms, {len(box[1])} edges, {torch.get_num_threads()} threads\n")
    print("| network | forces (ms) | training step (ms) | plain torch (ms) |\n|---|---|---|---|")
    results = {}
    for name, options in SIZES.items():
        torch.manual_seed(0)
        make = NETWORKS[name.split()[0]]
        net = make(n_species=4, channels=args.channels, cutoff=CUTOFF, **options)
        row = [fastest(lambda net=net: forces(net, box, False), args.repeats)]
        for fast in (True, False):
            net.fast = fast  # type: ignore[assignment]
            row.append(fastest(lambda net=net: train_step(net, box), args.repeats if fast else 2))
        results[name] = dict(zip(("forces", "train", "train_torch"), row, strict=True))
        print(f"| {name} | " + " | ".join(f"{value:.0f}" for value in row) + " |", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
