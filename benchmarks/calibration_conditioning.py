"""Physical scales, last layer, all weights or low-rank updates: what the same targets determine.

    python benchmarks/calibration_conditioning.py electrolyte --runs npt298 \\
        --targets densities.csv --frames held_out.db

Every set of parameters meets the same samples, targets and labelled frames (`hff conditioning` for
one of them): singular values, effective dimension, effective samples along a step, what the step
costs in forces, what it says of liquids that it was not fitted to, and how much it depends on the
samples. Low-rank updates start from random numbers: those are drawn several times.
Results go to benchmarks/results/conditioning.json; `benchmarks/performance_page.py` and
`benchmarks/figures.py` make the page's tables and figure of them.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from hff_ase import HybridFF
from hff_ase.calculators.finetune import conditioning
from hff_ase.calculators.finetune.conditioning import Conditioning
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.targets import Target, read_targets
from hff_ase.data import read_frames
from hff_ase.dynamics.sampling.lookup import with_reference
from hff_ase.dynamics.sampling.reading import read_ensembles
from hff_ase.files import write_whole
from hff_ase.training.adapt import add_lora

RESULT = Path(__file__).parent / "results" / "conditioning.json"
NETWORK = ("short_range.net.*", "short_range.energy.*", "charges.charge.*")
LAYERS = ("short_range.*",)  # that get low-rank updates


@dataclass(frozen=True)
class Family:
    """A set of parameters.

    Attributes:
        title: what the page calls it.
        patterns: of `hff conditioning --parameters`.
        rank: of low-rank updates that the model is given first; 0 for none.
    """

    title: str
    patterns: tuple[str, ...]
    rank: int = 0


FAMILIES = {
    "physical": Family("physical constants", ("physical",)),
    "last": Family("last layer of energies", ("short_range.energy.4.*",)),
    "heads": Family("energy head", ("heads",)),
    "lora": Family("low-rank updates", ("lora",), rank=4),
    "weights": Family("all weights", NETWORK),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="at constant pressure")
    parser.add_argument("--targets", type=Path, required=True, help="as of hff conditioning")
    parser.add_argument("--frames", type=Path, required=True, help="with forces")
    parser.add_argument("--every", type=int, default=10, help="use every n-th labelled frame")
    parser.add_argument("--unsettled", action="store_true", help="as of hff conditioning")
    parser.add_argument("--seeds", type=int, default=3, help="of low-rank updates")
    parser.add_argument("--draws", type=int, default=100, help="of the bootstrap")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    args = parser.parse_args()
    calc = HybridFF.load(args.model)
    ensembles = read_ensembles(args.runs, unsettled=args.unsettled)
    targets = with_reference(read_targets(args.targets))
    frames = read_frames(args.frames)[:: args.every]
    result = {
        "model": calc.info.name,
        "samples": [described(one) for one in ensembles],
        "frames": len(frames),
        "families": {},
    }
    for name in args.only:
        rows = list(measured(calc, FAMILIES[name], ensembles, targets, frames, args))
        result["families"][name] = rows
        print(row_of(name, rows), flush=True)
        write_whole(args.output, (json.dumps(result, indent=1) + "\n").encode())


def described(ensemble: Ensemble) -> dict[str, Any]:
    """Liquid and length of the samples."""
    return {
        "liquid": ensemble.liquid,
        "temperature": ensemble.temperature,
        "replicas": len(np.unique(ensemble.replica)),
        "samples": len(ensemble),
        "interval_ps": ensemble.interval,
        "atoms": len(ensemble.numbers),
    }


def measured(
    calc: HybridFF,
    family: Family,
    ensembles: Sequence[Ensemble],
    targets: Sequence[Target],
    frames: Sequence[Atoms],
    args: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """The report of a family, one for each seed where it has random numbers."""
    for seed in range(args.seeds if family.rank else 1):
        own = copy.deepcopy(calc)
        if family.rank:
            torch.manual_seed(seed)
            add_lora(own.potential, family.rank, None, LAYERS)
        begun = time.process_time()
        found = conditioning(
            own, ensembles, targets, family.patterns, frames=frames, n_draws=args.draws
        )
        yield {
            "title": family.title,
            "cpu_s": time.process_time() - begun,
            "transfer_rms": transfer(found),
            "before_rms": rms(found.values - measured_values(found)),
            **found.as_dict(),
        }


def measured_values(found: Conditioning) -> Any:
    """[K]."""
    return np.array([target.value for target in found.targets])


def transfer(found: Conditioning) -> float:
    """Deviation of liquids that a step was not fitted to, in the targets' unit."""
    return rms(found.left_out - measured_values(found))


def rms(deviations: Any) -> float:
    """Root mean square of those that are known."""
    return float(np.sqrt(np.nanmean(np.square(deviations))))


def row_of(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """A line for the terminal."""
    first = rows[0]
    return (
        f"{name:10s} {first['n_parameters']:6d} parameters, s "
        f"{' '.join(f'{s:.2f}' for s in first['singular_values'][:6])}, left "
        f"{min(first['samples_left'].values()):.2f}, per chi^2 "
        f"{1e3 * first['force_rmse_change_per_chi2']:+.3g} meV/A, transfer "
        f"{first['before_rms']:.4f} -> {first['transfer_rms']:.4f}, scatter "
        f"{first['step_scatter']:.2f}, {first['cpu_s']:.0f} CPU s"
    )


if __name__ == "__main__":
    main()
