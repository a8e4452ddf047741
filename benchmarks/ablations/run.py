"""Train the networks with and without their parts, in turn, for the same CPU time each.

    OMP_NUM_THREADS=1 python benchmarks/ablations/run.py FRAMES --output FOLDER [--cpu-hours 0.5]

What was stopped continues when the command is given again; what is done is left alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hff_ase.calculators.finetune import train
from hff_ase.settings.yaml_text import assignments
from hff_ase.training.config import TrainConfig

HERE = Path(__file__).parent
NETWORK = "model.terms.short_range"


def _get(part: str) -> list[str]:
    return [f"{NETWORK}.options.{part}=false"]


def _e3(l_max: int) -> list[str]:
    options = f"{{channels: 32, l_max: {l_max}, layers: 3, cutoff: 5.0}}"
    return [f"{NETWORK}.network=e3", f"{NETWORK}.options={options}"]


# name -> configuration, and what is replaced in it
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "get": ("get", []),
    "ge": ("get", _get("attention")),
    "git": ("get", _get("vectors")),
    "get-no-charge": ("get-no-charge", []),
    **{f"e3-l{l_max}": ("get", _e3(l_max)) for l_max in range(4)},
}


def settings(name: str, frames: Path, output: Path, cpu_hours: float, seed: int = 0) -> TrainConfig:
    """One variant with data, output and length filled in."""
    config, replaced = VARIANTS[name]
    return TrainConfig.load(
        HERE / f"{config}.yaml",
        {
            **assignments(replaced),
            "model.name": f"ablation-{name}",
            "data.train": [str(frames)],
            "output": str(output / name),
            "limits.cpu_hours": cpu_hours,
            "seed": seed,
        },
    )


def main() -> None:
    """Run what is asked for."""
    names = list(VARIANTS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path, help="folder of labelled frames")
    parser.add_argument("--output", type=Path, default=Path("ablations"))
    parser.add_argument("--cpu-hours", type=float, default=0.5, help="for each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    args = parser.parse_args()
    for name in args.only:
        if (args.output / name / "model.hff").exists():
            print(f"{name}: done before")
            continue
        config = settings(name, args.frames, args.output, args.cpu_hours, args.seed)
        train(config, resume=(args.output / name / "state.pt").exists())
        print(f"{name}: {args.output / name / 'model.hff'}", flush=True)


if __name__ == "__main__":
    main()
