"""Peers and hff_ase on the same structures, on the same cores, in one run.

    python benchmarks/peers/run.py --atoms 4116 --threads 1,2 --workdir peers \\
        --bamboo-path weights.npz --output benchmarks/results/peers.json

Makes an environment for each package under the working folder (once), measures energy and forces
per step (neighbour lists given; hff_ase's searches are part of its time), and prints times and
ratios. A peer that cannot be installed or run is listed with the reason. Every process is told
glibc's allocator settings that suit it best; BAMBOO is measured without them too, as it is
shipped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environments import ALLOCATOR as TUNED
from environments import make_environment
from show import show
from structures import RECIPE, write_structures

from hff_ase.bench.hardware import hardware, using_threads, versions, yardsticks

HERE = Path(__file__).parent
PEERS = ("hff", "bamboo", "mace", "nequip", "allegro", "tensornet")
ENVIRONMENT_OF = {"mace": "mace", "nequip": "nequip", "allegro": "nequip", "tensornet": "tensornet"}
TIMEOUT = 1800.0  # s for one measurement


@dataclass(frozen=True)
class Job:
    """One process: a script with its arguments, on one set of structures."""

    peer: str
    script: str
    case: str
    threads: int
    arguments: tuple[str, ...] = ()
    tuned: bool = True


def main() -> None:
    """Prepare, measure, print."""
    args = parse()
    args.workdir.mkdir(parents=True, exist_ok=True)
    structures = write_structures(args.workdir, args.atoms)
    failures: dict[str, str] = {}
    pythons = {"hff": sys.executable, "bamboo": sys.executable}
    for peer in args.peers:
        name = ENVIRONMENT_OF.get(peer)
        if name is not None:
            pythons[peer] = str(args.workdir / f"venv-{name}" / "bin" / "python")
            reason = make_environment(args.workdir / f"venv-{name}", name)
            if reason:
                failures[peer] = reason
    if "bamboo" in args.peers and args.bamboo_path is None:
        failures["bamboo"] = "no weights: give --bamboo-path (.npz of the arrays, or the .pt)"
    jobs = [job for job in plan(args, structures) if job.peer not in failures]
    cpu = torch.device("cpu")
    with using_threads(max(args.threads)):
        rates = yardsticks(cpu)
    machine = {
        "recipe": RECIPE,
        "hardware": hardware(cpu),
        "versions": versions(),
        "yardsticks": rates | {"threads": max(args.threads)},
    }
    results: dict[Job, dict[str, Any]] = {}
    for _ in range(args.rounds):
        for job in jobs:
            measure(job, pythons[job.peer], structures, args.repeats, results, failures)
            save(args.output, machine, results, failures)
    show(list(results.values()), failures)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--atoms", type=int, default=4116)
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(PEERS))
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--bamboo-path", type=Path, help="published weights: .npz, or the .pt")
    parser.add_argument("--models", type=lambda text: text.split(","), help="of hff_ase")
    parser.add_argument("--repeats", type=int, default=5, help="blocks of steps per process")
    parser.add_argument("--rounds", type=int, default=1, help="everything so many times, in turn")
    parser.add_argument("--output", type=Path, default=Path("peers.json"))
    args = parser.parse_args()
    unknown = [peer for peer in args.peers if peer not in PEERS]
    if unknown:
        parser.error(f"expected --peers among {','.join(PEERS)}, got {unknown[0]!r}")
    if args.bamboo_path is not None and not args.bamboo_path.is_file():
        parser.error(f"expected a file for --bamboo-path, got none at {args.bamboo_path}")
    if args.models is None:
        published = [] if args.bamboo_path is None else [str(args.bamboo_path)]
        args.models = [*published, "electrolyte"]
    return args


def numbers(text: str) -> list[int]:
    """1,2 -> [1, 2]."""
    return [int(part) for part in text.split(",")]


def plan(args: argparse.Namespace, structures: dict[str, Path]) -> list[Job]:
    """Everything to measure."""
    jobs: list[Job] = []
    for threads in args.threads:
        for case in ("box", "molecule", "batch"):
            moving = ("--moving", str(structures["small box"])) if case == "box" else ()
            jobs += [
                Job("hff", "hff_peer.py", case, threads, ("--model", model, *moving))
                for model in args.models
            ]
            for tuned in (True, False):
                weights = ("--path", str(args.bamboo_path))
                variants = ["eager", "network"] if case == "box" and tuned else ["eager"]
                # the published forward pass knows one system of total charge 0
                if str(args.bamboo_path).endswith(".pt") and case == "box":
                    variants.append("published")
                jobs += [
                    Job(
                        "bamboo", "bamboo_peer.py", case, threads, (*weights, "--variant", v), tuned
                    )
                    for v in variants
                ]
        for case in ("box", "molecule"):
            for peer, script, variant in (
                ("mace", "mace_peer.py", "off-small"),
                ("nequip", "nequip_peer.py", "nequip"),
                ("allegro", "nequip_peer.py", "allegro"),
                ("tensornet", "tensornet_peer.py", "2L"),
                ("tensornet", "tensornet_peer.py", "2L-warp"),
            ):
                jobs.append(Job(peer, script, case, threads, ("--variant", variant)))
        jobs.append(Job("mace", "mace_peer.py", "small box", threads, ("--variant", "128x1o")))
    return [job for job in jobs if job.peer in args.peers]


def measure(
    job: Job,
    python: str,
    structures: dict[str, Path],
    repeats: int,
    results: dict[Job, dict[str, Any]],
    failures: dict[str, str],
) -> None:
    """Run one job; its times are added to those of earlier rounds."""
    environment = {k: v for k, v in os.environ.items() if k not in TUNED}
    environment |= TUNED if job.tuned else {}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = str(job.threads)
    # Threads that wait at full load disturb each other where a core is shared.
    environment.setdefault("GOMP_SPINCOUNT", "1000")
    command = [python, str(HERE / job.script), str(structures[job.case]), *job.arguments]
    command += ["--threads", str(job.threads), "--repeats", str(repeats)]
    try:
        run = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
        if run.returncode != 0:
            raise RuntimeError(last_line(run.stderr))
        line = json.loads(next(x for x in reversed(run.stdout.splitlines()) if x.startswith("{")))
    except (RuntimeError, subprocess.TimeoutExpired, StopIteration, ValueError) as error:
        reason = f"more than {TIMEOUT:.0f} s" if "timed out" in str(error) else str(error)
        arguments = (Path(argument).name for argument in job.arguments)
        what = " ".join((job.case, *arguments, f"{job.threads} threads"))
        failures[f"{job.peer} ({what})"] = reason or type(error).__name__
        print(f"{job.peer} {job.case}: {reason}", file=sys.stderr)
        return
    line["case"] = job.case
    before = results.get(job, {}).get("times_ms", [])
    line["times_ms"] = before + line["times_ms"]
    line["ms"] = float(np.median(line["times_ms"]))
    line["us_per_atom"] = 1e3 * line["ms"] / line["atoms"]
    results[job] = line
    how = "" if job.tuned else ", default allocator"
    print(f"{line['name']:<32} {job.case:<10} {job.threads} threads{how}: {line['ms']:.2f} ms",
          file=sys.stderr)  # fmt: skip


def last_line(text: str) -> str:
    """What a failed program said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no message"


def save(
    path: Path,
    machine: dict[str, Any],
    results: dict[Job, dict[str, Any]],
    failures: dict[str, str],
) -> None:
    """Write what is known so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        **machine,
        "results": list(results.values()),
        "failures": failures,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
