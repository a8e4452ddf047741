"""hff_ase on the peers' structures: energy and forces of all terms, neighbour searches included.

Their share is what a search costs over the steps between two of them in molecular dynamics of
--moving. Runs in the environment of hff_ase; the model is a name, an .hff file, or the published
weights (.npz, .pt).
"""

from __future__ import annotations

from pathlib import Path

import torch
from common import CUTOFF, graph_of, options, read_all, report

from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.bench.hardware import using_threads
from hff_ase.bench.measure import count_rebuilds, step_of, time_rebuild, time_steps
from hff_ase.bench.timing import blocks
from hff_ase.calculators import HybridFF

MD_STEPS = 60


def main() -> None:
    """Measure, print one line."""
    parser = options(__doc__, ("auto", "reference"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--moving", type=Path, help="box for counting searches; without, none")
    args = parser.parse_args()
    keep_memory()
    load = HybridFF.from_bamboo if args.model.endswith((".npz", ".pt")) else HybridFF.load
    calculator = load(args.model, kernels=args.variant)
    structures = read_all(args.structures)
    with using_threads(args.threads):
        batch = AtomsBatch.from_atoms(structures)
        potential, skin = calculator.potential, calculator.skin
        _, terms = time_steps(potential, batch, skin, False, 3)
        rebuild, interval = 0.0, None
        if args.moving is not None:
            moving = read_all(str(args.moving))[0]
            count = count_rebuilds(calculator, moving, 1.0, MD_STEPS)
            interval = count.interval if count else None
            rebuild = time_rebuild(potential, batch, skin, False)
        share = rebuild / interval if interval else 0.0
        step = step_of(potential, batch, potential.neighbor_list(skin), False)
        times = [1e3 * t + share for t in blocks(step, torch.device("cpu"), args.repeats)]
        graph = graph_of(structures, CUTOFF)
        name = f"hff_ase {Path(args.model).stem}" + (
            "" if args.variant == "auto" else f" ({args.variant})"
        )
        report(
            name,
            "hff-ase",
            graph,
            potential,
            times_ms=times,
            peer="hff",
            variant=args.variant,
            terms_ms=terms,
            rebuild_ms=rebuild,
            steps_per_rebuild=interval,
        )


if __name__ == "__main__":
    main()
