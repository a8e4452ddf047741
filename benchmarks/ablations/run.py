"""Train every configuration of this folder in turn, for the same CPU time each.

    OMP_NUM_THREADS=1 python benchmarks/ablations/run.py FRAMES --output FOLDER [--cpu-hours 0.5]

What was stopped goes on when the command is given again; what is done is left alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hff_ase.training import train
from hff_ase.training.config import TrainConfig

HERE = Path(__file__).parent


def settings(name: str, frames: Path, output: Path, cpu_hours: float, seed: int = 0) -> TrainConfig:
    """One configuration with data, output and length filled in."""
    return TrainConfig.from_yaml(
        HERE / f"{name}.yaml",
        [
            f"data.train=['{frames}']",
            f"output={output / name}",
            f"limits.cpu_hours={cpu_hours}",
            f"seed={seed}",
        ],
    )


def main() -> None:
    """Run what is asked for."""
    names = sorted(path.stem for path in HERE.glob("*.yaml"))
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
