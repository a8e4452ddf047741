"""Milliseconds per training step: a double backward pass beside fused kernels.

    python benchmarks/training_step.py [frames.extxyz ...] [--boxes 1 4] [--threads 1 2]

The step is the gradient of a loss on energy, forces, stress and charges (no optimizer). Without
frames, boxes of about 210 atoms are generated and labelled with zeros; their density is that of
a liquid, so that the time is too. Times are the lowest of several rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read

from hff_ase.batch import AtomsBatch
from hff_ase.data.labels import labels_of
from hff_ase.neighbors import NeighborList
from hff_ase.potential import HybridPotential
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.terms.short_range import ShortRange
from hff_ase.testing import ELEMENTS, ionic_box
from hff_ase.training.gradients import SKIN, accumulate_gradients
from hff_ase.training.losses import LossWeights

COULOMB = ("pme", 6.0, 1e-4)  # as in training the shipped models


def potential_of(channels: int, layers: int = 3) -> HybridPotential:
    """GET, charges and Coulomb, with random weights."""
    torch.manual_seed(0)
    options = {"channels": channels, "heads": 16, "layers": layers, "cutoff": 5.0}
    terms = {
        "short_range": ShortRange(ELEMENTS, "get", options),
        "charges": PredictedCharges(ELEMENTS, channels),
        "coulomb": Coulomb(*COULOMB, (2.2, 18.7)),
    }
    return HybridPotential(terms, ELEMENTS).train()


def generated(n: int) -> list[Atoms]:
    """Boxes of 210 atoms at about 10 A^3 per atom, with labels of zero."""
    boxes = []
    for seed in range(n):
        atoms = ionic_box("Li6P6F36C54H72O36", spacing=2.15, seed=seed)
        zeros = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}
        atoms.calc = SinglePointCalculator(atoms, **zeros, charges=np.zeros(len(atoms)))
        boxes.append(atoms)
    return boxes


def milliseconds(step: Callable[[], object], seconds: float) -> float:
    """The shortest time of a step within some seconds.

    One thread: processor time, which other work on the machine disturbs least; several: by the
    clock.
    """
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    step()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = now()
        step()
        times.append(now() - start)
    return 1e3 * min(times)


def measure(potential: HybridPotential, frames: list[Atoms], seconds: float) -> list[float]:
    """Milliseconds of the reference, of fused kernels, and of these with a list that is kept."""
    batch, labels = AtomsBatch.from_atoms(frames), labels_of(frames)
    kept = potential.neighbor_list(SKIN)

    def step(method: str, neighbors: NeighborList | None = None) -> None:
        potential.zero_grad(set_to_none=True)
        accumulate_gradients(
            potential, batch, labels, LossWeights(), method=method, neighbors=neighbors
        )

    return [
        milliseconds(lambda: step("reference"), seconds),
        milliseconds(lambda: step("directional"), seconds),
        milliseconds(lambda: step("directional", kept), seconds),
    ]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", nargs="*")
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--channels", type=int, nargs="+", default=[48, 64])
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    frames = [read(path, index=0) for path in args.frames] or generated(max(args.boxes))
    print("| GET | atoms | threads | reference (ms) | directional (ms) | with a kept list (ms) |")
    print("|---|---|---|---|---|---|")
    for channels, n_boxes, threads in product(args.channels, args.boxes, args.threads):
        torch.set_num_threads(threads)
        chosen = [frames[k % len(frames)] for k in range(n_boxes)]
        times = measure(potential_of(channels), chosen, args.seconds)
        row = " | ".join(f"{t:.1f}" for t in times)
        n_atoms = sum(len(atoms) for atoms in chosen)
        print(f"| {channels}x3 | {n_atoms} | {threads} | {row} |", flush=True)


if __name__ == "__main__":
    main()
