"""Throughput of many replicas of a small box in one batch, against one of them.

    python benchmarks/replicas.py --replicas 1 8 64 512 --device cuda --json replicas.json

Moves copies of a box of LiPF6 in EC:DMC by Langevin dynamics with a shipped model and prints atom
steps per second, all replicas together, and the ratio to the first number of replicas. The box is
relaxed first. Steps before the first search for neighbours are not counted; of several stretches
of steps the fastest counts, since other work on the machine only slows things down.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from hff_ase.allocator import keep_memory
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.dynamics.replicas.replica_engine import ReplicaEngine
from hff_ase.dynamics.replicas.start import make_replicas, relax

RECIPE = "1.0 M LiPF6 in EC:DMC 1:1 v/v"


def advance(engine: ReplicaEngine, n_steps: int) -> float:
    """Take steps; seconds."""
    began, last = time.perf_counter(), engine.loop.step + n_steps
    while engine.loop.step < last:
        engine.advance(last - engine.loop.step)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(box: Atoms, calc: HybridFF, config: ReplicaConfig, args: Any) -> dict[str, float]:
    """Speed of one batch."""
    engine = ReplicaEngine(make_replicas([box], config), calc)
    advance(engine, args.warm_up)
    seconds = min(advance(engine, args.steps) for _ in range(args.stretches)) / args.steps
    n_atoms = len(box) * config.n_replicas
    entry = {
        "replicas": config.n_replicas,
        "atoms": n_atoms,
        "ms_per_step": 1000 * seconds,
        "atom_steps_per_s": n_atoms / seconds,
    }
    if calc.device.type == "cuda":
        entry["memory_GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return entry


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--atoms", type=int, default=200)
    parser.add_argument("--model", default="electrolyte")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20, help="per stretch")
    parser.add_argument("--stretches", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_memory()
    calc = HybridFF.load(args.model, device=args.device)
    box = build_box(RECIPE, args.atoms)
    settings = {"time": "1ns", "temperature": 300.0, "minimize_steps": 60}
    relax([box], ReplicaConfig.load(settings), calc, lambda *_: None)
    rows: list[dict[str, float]] = []
    print("| replicas | atoms | ms/step | atom steps/s | ratio |\n|---|---|---|---|---|")
    for number in args.replicas:
        config = ReplicaConfig.load({**settings, "replicas": number})
        rows.append(measure(box, calc, config, args))
        last, ratio = rows[-1], rows[-1]["atom_steps_per_s"] / rows[0]["atom_steps_per_s"]
        print(
            f"| {number} | {last['atoms']} | {last['ms_per_step']:.1f} | "
            f"{last['atom_steps_per_s']:.3g} | {ratio:.2f} |",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
