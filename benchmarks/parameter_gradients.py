"""What per-frame derivatives of the energy in parameters cost beside a call for forces.

    python benchmarks/parameter_gradients.py --models electrolyte electrolyte-e3 --atoms 240

Frames of one box are evaluated in one batch, by turns for energy and forces and for the same with
dE/dtheta of chosen parameters. Prints, for each choice, how many numbers theta has, the shortest
processor time of either call per frame, and their ratio: processor times, so that other work on the
machine counts little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.checkpoint import load_model
from hff_ase.dynamics.build import build_box
from hff_ase.evaluator import Evaluator
from hff_ase.models import model_path
from hff_ase.parameters import matching, parameter_names, tensors
from hff_ase.potential import HybridPotential

RECIPES = {"ec-dmc-lipf6-pol": "1 M LiPF6 in EC:DMC 1:1 mol/mol", "ecemc-dft": "EC:EMC 1:1 v/v"}
USUAL = "1 M LiPF6 in EC:DMC 1:1 w/w"


def choices(potential: HybridPotential) -> dict[str, list[str]]:
    """Patterns of names under what the table calls them."""
    names = parameter_names(potential)
    found = {"scales of all terms": ["*.scale"]}
    heads = [
        (term, [n for n in names if n.startswith(f"{term}.{head}.")])
        for term, head in (("short_range", "energy"), ("charges", "charge"))
    ]
    last = [f"{own[-1].rsplit('.', 1)[0]}.*" for _, own in heads if own]
    if last:
        found["last layers"] = last
    networks = [f"{name}.*" for name, term in potential.named_terms() if [*term.parameters()]]
    physics = [n for n in names if n not in tensors(potential, names) and not n.endswith(".scale")]
    if physics:
        found["physical constants"] = physics
    for name in networks:
        found[f"all of {name[:-2]}"] = [name]
    return found


def least(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """The shortest processor time of each call, s, the calls being made by turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats + 1):
        for call, own in zip(calls, times, strict=True):
            start = time.process_time()
            call()
            own.append(time.process_time() - start)
    return [min(own[1:]) for own in times]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["electrolyte"])
    parser.add_argument("--atoms", type=int, default=240)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    for model in args.models:
        potential, _ = load_model(model_path(model))
        box = build_box(RECIPES.get(model, USUAL), args.atoms, seed=0)
        frames = [box.copy() for _ in range(args.frames)]
        for seed, atoms in enumerate(frames):
            atoms.rattle(0.02, seed=seed)
        batch = AtomsBatch.from_atoms(frames)
        evaluator = Evaluator(potential, skin=1.0, trajectory=False)
        print(f"{model}: {args.frames} frames of {len(box)} atoms, ms of processor time per frame")
        print(f"{'theta':<28} {'numbers':>8} {'forces':>8} {'with dE/dtheta':>15} {'ratio':>6}")
        for what, patterns in choices(potential).items():
            known = tensors(potential, matching(potential, patterns))
            n = sum(value.numel() for value in known.values()) or len(matching(potential, patterns))
            ask = partial(evaluator.evaluate, batch, parameters=patterns)
            forces = partial(ask, derivatives=("positions",))
            both = partial(ask, derivatives=("positions", "parameters"))
            alone, beside = least((forces, both), args.repeats)
            scale = 1e3 / args.frames
            print(f"{what:<28} {n:>8,} {alone * scale:8.2f} {beside * scale:15.2f} "
                  f"{beside / alone:6.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
