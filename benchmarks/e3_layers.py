"""Time of E3Net and GET per box: forces, and a training step on forces, by how it is done.

    OMP_NUM_THREADS=1 python benchmarks/e3_layers.py [--atoms 160] [--channels 32] [--json OUT]

"kernels": tabulated radial weights and directional gradients (what a user gets on a CPU); "graph":
fused edge sums that are differentiated twice; "torch": neither. A random periodic box at the
density of a liquid (0.1 atoms/A^3); the fastest of several calls.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.data.labels import Labels
from hff_ase.neighbors import NeighborList
from hff_ase.potential import HybridPotential
from hff_ase.terms.short_range import ShortRange
from hff_ase.training.gradients import SKIN, accumulate_gradients
from hff_ase.training.losses import LossWeights

CUTOFF, DENSITY, ELEMENTS = 5.0, 0.1, ("H", "C", "O", "Li")
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
FORCES = LossWeights(energy=0.0, forces=1.0, stress=0.0, charges=0.0)


def make_box(n_atoms: int, seed: int = 0) -> AtomsBatch:
    """A random box."""
    rng = np.random.default_rng(seed)
    length = (n_atoms / DENSITY) ** (1 / 3)
    positions = length * rng.random((n_atoms, 3))
    atoms = Atoms(rng.choice(ELEMENTS, n_atoms), positions, cell=[length] * 3, pbc=True)
    return AtomsBatch.from_atoms([atoms])


class Case:
    """A network on a box."""

    def __init__(self, name: str, channels: int, box: AtomsBatch) -> None:
        torch.manual_seed(0)
        options = {"channels": channels, "cutoff": CUTOFF, **SIZES[name]}
        self.term = ShortRange(ELEMENTS, name.split()[0], options)
        self.potential = HybridPotential({"short_range": self.term}, ELEMENTS).train()
        self.box = box
        nothing = torch.full((1,), torch.nan, dtype=torch.float64)
        self.labels = Labels(
            nothing, torch.zeros_like(box.positions), nothing.expand(1, 3, 3),
            nothing.expand(box.n_atoms), nothing.expand(1, 3), torch.ones_like(nothing),
        )  # fmt: skip
        self.list: NeighborList = self.potential.neighbor_list(SKIN)
        self.list.update(box)

    def forces(self, kernels: str) -> None:
        """One force call."""
        self.potential.use_kernels(kernels)(self.box, self.list, stress=False)

    def train(self, method: str) -> None:
        """Gradient of the mean square force in the parameters."""
        accumulate_gradients(
            self.potential, self.box, self.labels, FORCES, method=method, neighbors=self.list
        )

    def measured(self, repeats: int) -> dict[str, float]:
        """Milliseconds of everything."""
        net, found = self.term.net, {}
        found["forces graph"] = fastest(lambda: self.forces("reference"), repeats)
        found["forces kernels"] = fastest(lambda: self.forces("auto"), repeats)
        found["training kernels"] = fastest(lambda: self.train("directional"), repeats)
        found["training graph"] = fastest(lambda: self.train("reference"), repeats)
        net.fast = False  # type: ignore[assignment]
        found["training torch"] = fastest(lambda: self.train("reference"), 2)
        return found


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
    print(f"{args.atoms} atoms, {torch.get_num_threads()} threads, milliseconds\n")
    results: dict[str, dict[str, float]] = {}
    for name in SIZES:
        row = results[name] = Case(name, args.channels, box).measured(args.repeats)
        if len(results) == 1:
            print("| network | " + " | ".join(row) + " |\n" + "|---" * (len(row) + 1) + "|")
        print(f"| {name} | " + " | ".join(f"{value:.0f}" for value in row.values()) + " |")
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
