"""What the training of every peer shares: data, clock, schedule, loop, errors, log.

Imports nothing of hff_ase: the scripts run in the peers' own environments. A peer brings its
model, loss, optimizer, averaged weights and batches (`Learner`); the loop here gives it a budget of
CPU seconds (this process and its children; tests and checkpoints are not counted), decays its
learning rate over that budget, and writes errors on validation and test boxes as JSON lines.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import resource
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.stress import full_3x3_to_voigt_6_stress

SPLIT = Path(__file__).parents[1] / "ecemc" / "split.json"
SETS = ("train", "validation", "test")
FINAL_RATE = 0.01  # learning rate at the end of the budget, of that at its start
STAGE_TWO = 0.75  # of the budget: from here on energies weigh more


class Learner(Protocol):
    """A peer: frames are named by their place in `Data.frames`."""

    parameters: int

    def step(self, frames: list[int]) -> None:
        """One optimizer step on these training frames."""

    def set_rate(self, factor: float, stage_two: bool) -> None:
        """Learning rate of the next step (of the first one's), and which loss weights."""

    def predict(self, frame: int) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy, forces [n, 3], stress [3, 3] (eV, A) of one frame with averaged weights."""

    def state(self) -> dict[str, Any]:
        """What a later run needs to continue."""

    def load(self, state: dict[str, Any]) -> None:
        """Continue from there."""


@dataclass
class Data:
    """All boxes with energy, forces, stress; which are for what; isolated atoms' energies (eV)."""

    frames: list[Atoms]
    sets: dict[str, list[int]]
    isolated: dict[int, float]

    def __post_init__(self) -> None:
        train = [self.frames[k] for k in self.sets["train"]]
        forces = np.concatenate([atoms.get_forces() for atoms in train])
        self.forces_rms = float(np.sqrt(np.mean(forces**2)))
        binding = [
            (a.get_potential_energy() - sum(self.isolated[z] for z in a.numbers)) / len(a)
            for a in train
        ]
        self.binding = float(np.mean(binding))  # eV per atom beyond the isolated atoms


def read_data(path: Path, split: Path = SPLIT) -> Data:
    """The file with the split that was made of it."""
    written = json.loads(split.read_text())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != written["sha256"]:
        raise SystemExit(f"expected the file that {split} was made of, got another in {path}")
    frames = read(path, ":")
    isolated = {}
    for k in written["isolated"]:
        isolated[int(frames[k].numbers[0])] = frames[k].get_potential_energy()
    for atoms in frames:
        if "virial" in atoms.info:
            stress = -np.asarray(atoms.info.pop("virial")).reshape(3, 3) / atoms.get_volume()
            atoms.calc = SinglePointCalculator(
                atoms,
                energy=atoms.get_potential_energy(),
                forces=atoms.get_forces(),
                stress=full_3x3_to_voigt_6_stress(stress),
            )
    return Data(frames, {name: written[name] for name in SETS}, isolated)


def cpu_seconds() -> float:
    """CPU time of this process and of those that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def options(description: str | None, variants: tuple[str, ...]) -> argparse.ArgumentParser:
    """The options that every peer knows."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("frames", type=Path, help="train.xyz")
    parser.add_argument("output", type=Path, help="folder: log.jsonl, state.pt")
    parser.add_argument("--variant", choices=variants, default=variants[0])
    parser.add_argument("--cpu-seconds", type=float, default=1800.0)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.01, help="learning rate at the start")
    parser.add_argument("--every", type=float, default=180.0, help="CPU seconds between tests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", type=Path, default=SPLIT)
    parser.add_argument("--speed", action="store_true", help="measure the trained model's speed")
    return parser


def errors(learner: Learner, data: Data, name: str) -> dict[str, float]:
    """RMSE of energy (meV/atom; also less its mean), forces (meV/A), stress (meV/A^3)."""
    energy, forces, stress = [], [], []
    for k in data.sets[name]:
        atoms = data.frames[k]
        e, f, s = learner.predict(k)
        energy.append((e - atoms.get_potential_energy()) / len(atoms))
        forces.append(f - atoms.get_forces())
        stress.append(s - atoms.get_stress(voigt=False))
    return {
        "energy": 1e3 * _rms(np.array(energy)),
        "energy_less_mean": 1e3 * float(np.std(energy)),
        "forces": 1e3 * _rms(np.concatenate(forces)),
        "stress": 1e3 * _rms(np.stack(stress)),
    }


def train(learner: Learner, data: Data, args: argparse.Namespace, **facts: Any) -> None:
    """Train to the end of the budget, from where an earlier run stopped if one did."""
    args.output.mkdir(parents=True, exist_ok=True)
    log, state = args.output / "log.jsonl", args.output / "state.pt"
    spent, steps, next_test = 0.0, 0, args.every
    if state.exists():
        stored = torch.load(state, weights_only=False)
        learner.load(stored["learner"])
        spent, steps, next_test = stored["spent"], stored["steps"], stored["next_test"]
    facts |= {"cpu_budget": args.cpu_seconds, "batch_size": args.batch_size, "rate": args.rate}
    facts |= {"parameters": learner.parameters, "seed": args.seed, "torch": version("torch")}
    write_line(log, {"settings": facts | {"threads": torch.get_num_threads()}})
    per_epoch = len(data.sets["train"]) // args.batch_size
    while spent < args.cpu_seconds:
        start = cpu_seconds()
        done = spent / args.cpu_seconds
        rate = FINAL_RATE + (1.0 - FINAL_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))
        learner.set_rate(rate, done >= STAGE_TWO)
        epoch, place = divmod(steps, per_epoch)
        order = np.random.default_rng((args.seed, epoch)).permutation(data.sets["train"])
        learner.step(order[place * args.batch_size : (place + 1) * args.batch_size].tolist())
        steps += 1
        spent += cpu_seconds() - start
        if spent >= min(next_test, args.cpu_seconds):
            next_test += args.every
            row: dict[str, Any] = {"cpu_s": round(spent, 1), "steps": steps, "epoch": epoch}
            row |= {name: errors(learner, data, name) for name in ("validation", "test")}
            write_line(log, row)
            stored = {"learner": learner.state(), "spent": spent, "steps": steps}
            torch.save(stored | {"next_test": next_test}, state.with_suffix(".part"))
            state.with_suffix(".part").replace(state)


def speed(learner: Learner, data: Data, args: argparse.Namespace, **facts: Any) -> None:
    """Time of energy, forces and stress of one box, and frames trained on per second.

    CPU seconds with one thread, the least of several; the box is the first of the test set.
    """
    box = data.sets["test"][0]
    same = min(
        data.sets["train"], key=lambda k: abs(data.frames[k].cell.volume - _volume(box, data))
    )
    row: dict[str, Any] = {"speed": facts | {"threads": torch.get_num_threads(), "box": box}}
    row["speed"]["inference_ms"] = 1e3 * _least(lambda: learner.predict(box))
    for batch in (1, 4):
        time_of_step = _least(lambda batch=batch: learner.step([same] * batch))
        row["speed"][f"train_frames_per_s_batch_{batch}"] = batch / time_of_step
    write_line(args.output / "speed.jsonl", row)


def run(learner: Learner, data: Data, args: argparse.Namespace, **facts: Any) -> None:
    """What the command line asks for."""
    facts |= {"variant": args.variant}
    if not args.speed:
        train(learner, data, args, **facts)
        return
    learner.load(torch.load(args.output / "state.pt", weights_only=False)["learner"])
    learner.set_rate(0.0, False)
    speed(learner, data, args, **facts)


def _volume(k: int, data: Data) -> float:
    return float(data.frames[k].cell.volume)


def _least(call: Any, repeats: int = 9) -> float:
    """CPU seconds of the fastest call of several, after two that do not count."""
    times = []
    for _ in range(repeats + 2):
        start = cpu_seconds()
        call()
        times.append(cpu_seconds() - start)
    return min(times[2:])


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def write_line(path: Path, row: dict[str, Any]) -> None:
    """Add a line to a log, with the time of the wall clock."""
    with path.open("a") as file:
        file.write(json.dumps(row | {"time": round(time.time(), 1)}) + "\n")
