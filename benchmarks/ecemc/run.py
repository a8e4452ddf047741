"""Train ours and the peers on the EC/EMC boxes for the same CPU time, or measure their speed.

    python benchmarks/ecemc/run.py train.xyz --workdir FOLDER
    python benchmarks/ecemc/run.py train.xyz --workdir FOLDER --speed
    python benchmarks/ecemc/table.py FOLDER

One program at a time (--programs takes a subset), one thread each. What was stopped continues when
the command is given again; what is done is left alone. Speeds want a machine with nothing else to
do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
from environments import make_environment, one_thread

HERE = Path(__file__).parent
PEERS = HERE.parent / "peers"


@dataclass(frozen=True)
class Program:
    """A script with its arguments; the environment it wants, None for this one."""

    script: Path
    environment: str | None
    arguments: tuple[str, ...]


def _ours(variant: str) -> Program:
    return Program(HERE / "ours.py", None, ("--variant", variant))


# The peers' variants are those that did best in trials of a few minutes (README.md).
PROGRAMS = {
    "mace": Program(PEERS / "mace_train.py", "mace", ("--variant", "32x1o")),
    "nequip": Program(PEERS / "nequip_train.py", "nequip", ("--variant", "l1-even")),
    "get": _ours("get"),
    "get-qeq": _ours("get-qeq"),
    "e3-l1": _ours("e3-l1"),
    "e3-l2": _ours("e3-l2"),
}


def main() -> None:
    """Run what is asked for, in sequence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--programs", type=lambda text: text.split(","), default=list(PROGRAMS))
    parser.add_argument("--cpu-seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--environments", type=Path, help="venv-mace, venv-nequip; made if absent")
    parser.add_argument("--speed", action="store_true", help="of the trained models")
    args = parser.parse_args()
    unknown = [name for name in args.programs if name not in PROGRAMS]
    if unknown:
        parser.error(f"expected --programs among {','.join(PROGRAMS)}, got {unknown[0]!r}")
    failed = [name for name in args.programs if not start(name, args)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def start(name: str, args: argparse.Namespace) -> bool:
    """Run one program to its end; whether it reached it."""
    program, folder = PROGRAMS[name], args.workdir / name
    folder.mkdir(parents=True, exist_ok=True)
    python = sys.executable
    if program.environment is not None:
        environment = (args.environments or args.workdir) / f"venv-{program.environment}"
        reason = make_environment(environment, program.environment)
        if reason:
            print(f"{name}: {reason}", flush=True)
            return False
        python = str(environment / "bin" / "python")
    command = [python, str(program.script), str(args.frames), str(folder), *program.arguments]
    command += ["--cpu-seconds", str(args.cpu_seconds), "--seed", str(args.seed)]
    command += ["--speed"] if args.speed else []
    begin = time.monotonic()
    with (folder / "output.txt").open("a") as output:
        run = subprocess.run(command, env=one_thread(), stdout=output, stderr=subprocess.STDOUT)
    minutes = (time.monotonic() - begin) / 60.0
    print(f"{name}: exit {run.returncode}, {minutes:.1f} min, see {folder}", flush=True)
    return run.returncode == 0


if __name__ == "__main__":
    main()
