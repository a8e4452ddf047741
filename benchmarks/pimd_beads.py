"""Time per step of path integral dynamics against beads: what the driver and i-PI add.

    python benchmarks/pimd_beads.py --atoms 256 2000 --beads 1 4 8 16 32 --json pimd_beads.json
    python benchmarks/pimd_beads.py ... --mace-python env/bin/python    # with mace-torch and i-PI

Every run is i-PI's PILE-L dynamics of a relaxed box of 1 M LiPF6 in EC:DMC; times are medians over
steps. "bare" is the force call alone (forward and backward pass of all beads and the searches for
neighbours) at the very positions of the run in process, "driver" what units and bookkeeping add,
"i-PI" the rest of the step. "shm" has the driver in a process beside i-PI, "one by one" asks for
bead after bead. MACE is i-PI's own batched driver with random weights of the size of MACE-OFF23
small. Prints tables as in docs/pimd.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import write
from ase.optimize import LBFGS

from hff_ase import HybridFF
from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.bench.boxes import large_box
from hff_ase.bench.timing import device_ready
from hff_ase.dynamics.pimd import PIMDConfig, PIMDRun
from hff_ase.dynamics.pimd.processes import driver_commands
from hff_ase.passes import Evaluation
from hff_ase.shared_evaluators import SharedEvaluators

RECIPE = "1.0 M LiPF6 in EC:DMC 1:1 v/v"
WARMUP = 3  # steps that do not count: compilation, first searches
PEER = Path(__file__).with_name("pimd_mace.py")


def main() -> None:
    """Measure all that was asked for, print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="electrolyte")
    parser.add_argument("--atoms", type=int, nargs="+", default=[256, 2000])
    parser.add_argument("--beads", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--relax", type=int, default=60, help="steps of the relaxation")
    parser.add_argument("--mace-python", help="Python of an environment with MACE and i-PI")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the processes beside this one
    rows = []
    for n_atoms in args.atoms:
        box = relaxed(large_box(RECIPE, n_atoms), args)
        for beads in args.beads:
            row = {"atoms": len(box), "beads": beads} | measure(box, beads, args)
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
            if args.json is not None:
                args.json.write_text(json.dumps(rows, indent=1))
    print(tables(rows))


def relaxed(atoms: Atoms, args: argparse.Namespace) -> Atoms:
    """A box whose atoms are not packed any more, but bonded."""
    atoms.calc = HybridFF.load(args.model, device=args.device)
    LBFGS(atoms, logfile=None, maxstep=0.1).run(fmax=0.5, steps=args.relax)
    atoms.calc = None
    return atoms


def measure(box: Atoms, beads: int, args: argparse.Namespace) -> dict[str, float | None]:
    """Milliseconds per step of every way to run so many beads."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "box.extxyz", box, columns=["symbols", "positions"])
        found: dict[str, float | None] = dict(in_process(make_run(folder, "a", beads, args), args))
        one = make_run(folder, "b", beads, args)
        text = one["input.xml"].read_text().replace(f", beads: {beads}", "")
        text = text.replace(f"<batch_size>{beads}<", "<batch_size>1<")
        found["one_by_one"] = float(np.median(timed_steps(one, text, args)[0]))
        found["shm"] = beside(make_run(folder, "c", beads, args, transport="shm"), args)
        found["mace"] = found["mace_driver"] = None
        if args.mace_python is not None:
            found |= peer(make_run(folder, "d", beads, args), beads, args)
        return found


def make_run(
    folder: Path, name: str, beads: int, args: argparse.Namespace, **others: Any
) -> PIMDRun:
    """A run that writes next to nothing."""
    settings = {
        "structure": str(folder / "box.extxyz"), "model": args.model, "beads": beads,
        "device": args.device, "time": "1ps", "output": str(folder / name),
        "statistics_interval": 1000, "trajectory_interval": 1000,
    }  # fmt: skip
    return PIMDRun.create(PIMDConfig.load(settings | others))


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """i-PI reads and writes where it is."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def timed_steps(
    run: PIMDRun, text: str, args: argparse.Namespace, ready: Callable[[Any], None] | None = None
) -> tuple[list[float], Any]:
    """Milliseconds of every step of i-PI in this process, and its simulation."""
    from ipi.scripting import InteractiveSimulation

    with inside(run.folder):
        simulation = InteractiveSimulation(text)
        if ready is not None:
            ready(simulation)
        simulation.run(WARMUP, write_outputs=False)
        clock = Clock(args.device)
        simulation.run_step = clock.around(simulation.run_step)
        simulation.run(args.steps, write_outputs=False)
    return clock.times[-args.steps :], simulation


class Clock:
    """Milliseconds of each call of a function."""

    def __init__(self, device: str) -> None:
        self.times: list[float] = []
        self._device = torch.device(device)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted."""

        def counted(*given: Any, **named: Any) -> Any:
            device_ready(self._device)
            start = time.perf_counter()
            result = function(*given, **named)
            device_ready(self._device)
            self.times.append(1e3 * (time.perf_counter() - start))
            return result

        return counted


def in_process(run: PIMDRun, args: argparse.Namespace) -> dict[str, float]:
    """The step in i-PI's process, and where its time goes."""
    forces, driver = Clock(args.device), Clock(args.device)
    evaluate = SharedEvaluators.evaluate

    def all_at_once(self: SharedEvaluators, batch: AtomsBatch) -> Iterator[Evaluation]:
        return iter(forces.around(lambda: list(evaluate(self, batch)))())

    def ready(simulation: Any) -> None:
        (field,) = (f for f in simulation.fflist.values() if hasattr(f, "driver"))
        field.driver.compute = driver.around(field.driver.compute)

    SharedEvaluators.evaluate = all_at_once  # type: ignore[method-assign]
    try:
        steps, _ = timed_steps(run, run["input.xml"].read_text(), args, ready)
    finally:
        SharedEvaluators.evaluate = evaluate  # type: ignore[method-assign]
    # one call per step; the last ones, without those of the warm-up
    step, called, bare = (
        np.array(times[-args.steps :]) for times in (steps, driver.times, forces.times)
    )
    parts = {"in_process": step, "bare": bare, "driver": called - bare, "ipi": step - called}
    return {name: float(np.median(times)) for name, times in parts.items()}


def beside(run: PIMDRun, args: argparse.Namespace) -> float:
    """The step with a driver in another process, over shared memory."""
    started: list[subprocess.Popen[bytes]] = []

    def ready(_: Any) -> None:
        for command in driver_commands(run.config, run.address):
            started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

    try:
        steps, simulation = timed_steps(run, run["input.xml"].read_text(), args, ready)
        for field in simulation.fflist.values():
            field.stop()
        return float(np.median(steps))
    finally:
        for process in started:
            process.kill()
            process.wait()


def peer(run: PIMDRun, beads: int, args: argparse.Namespace) -> dict[str, float | None]:
    """MACE's driver on the same beads, in its own environment."""
    command = [args.mace_python, str(PEER), str(run.folder), "--beads", str(beads)]
    command += ["--steps", str(args.steps), "--warmup", str(WARMUP), "--device", args.device]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr[-2000:], file=sys.stderr)
        return {"mace": None, "mace_driver": None}
    found: dict[str, float | None] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def tables(rows: list[dict[str, Any]]) -> str:
    """Times and overheads as markdown."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"

    def over(value: float, bare: float) -> str:
        return f"{100 * (value / bare - 1):+.0f} %"

    lines = [
        "| atoms | beads | bare (ms) | in process | shm | one by one | driver (ms) | i-PI (ms) "
        "| MACE (ms) | of which driver |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        bare = row["bare"]
        relative = (over(row[name], bare) for name in ("in_process", "shm", "one_by_one"))
        rest = (number(row[name]) for name in ("driver", "ipi", "mace", "mace_driver"))
        cells = [str(row["atoms"]), str(row["beads"]), number(bare), *relative, *rest]
        lines.append("| " + " | ".join(cells) + " |")
    worst = {
        name: max(row[name] / row["bare"] - 1 for row in rows) for name in ("in_process", "shm")
    }
    lines.append("")
    lines += [f"largest overhead {name}: {100 * value:.1f} %" for name, value in worst.items()]
    speedups = [row["one_by_one"] / row["in_process"] for row in rows if row["beads"] > 1]
    if speedups:
        mean = np.exp(np.mean(np.log(speedups)))
        lines.append(f"one by one over batched, geometric mean: {mean:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
