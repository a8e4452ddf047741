"""Make the shipped model `electrolyte` from labelled boxes and its teacher's weights.

    python models/recipes/electrolyte/make.py --boxes FOLDER --teacher weights.npz --work WORK

Rounds of active learning: two networks that differ in their random numbers are trained on what
there is, the first runs molecular dynamics of every liquid at random temperatures and densities,
the frames on which the two disagree most are labelled by the teacher and added. The first network
is then trained for longer, at last also on the other frames of the rounds, on random mixtures, on
clusters cut out of them and on molecules with distorted angles.
Every training goes on from the one before, the first from `--start` where there is one.
Every part is written whole and skipped when it is there: a recipe that was stopped goes on where it
was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.io import read
from distorted import distorted
from frames import make_sets, most_uncertain
from liquids import LIQUIDS, random_mixtures
from sampling import boxes, draw_starts, sample
from teacher import label, largest_force, load_teacher

from hff_ase.calculators import HybridFF
from hff_ase.calculators.committee import Committee
from hff_ase.checkpoint import save_model
from hff_ase.data import read_frames, write_database
from hff_ase.data.frames import frames_text
from hff_ase.errors import StructureError
from hff_ase.files import write_whole
from hff_ase.labels.clusters import cut_clusters
from hff_ase.training.config import TrainConfig
from hff_ase.training.model import changed

CONFIG = Path(__file__).with_name("config.yaml")
MEMBERS = 2
CONTINUED = {
    "optimizer.learning_rate": 1.5e-3,
    "schedule.warmup": 100,
    "batching.batch_size": 4,  # slower to begin with, better in the end
}
WIDE = "wide-{}.db"
CLUSTERS = {"min_atoms": 8, "max_atoms": 48}  # one molecule and up
TOO_FAR = 50.0  # eV/Angstrom; frames beyond it tell nothing about liquids


def first_model(args: argparse.Namespace) -> Path:
    """The start with the dispersion of the configuration."""
    target: Path = args.work / "start.hff"
    if not target.exists():
        calc = HybridFF.load(args.start)
        terms = dict(calc.potential.named_terms())
        entry = yaml.safe_load(CONFIG.read_text())["model"]["terms"]["dispersion"]
        terms["dispersion"] = changed("dispersion", terms["dispersion"], entry)
        frames = read_frames(args.work / "validation.db")[:2]
        save_model(target, calc.potential.with_terms(terms), calc.info, frames)
    return target


def train_members(args: argparse.Namespace, number: int, hours: float, members: int) -> list[Path]:
    """Train networks on all frames there are so far, side by side; paths of their models."""
    rounds = [args.work / f"round-{k}.db" for k in range(min(number, args.rounds))]
    sets = [args.work / "train.db", *rounds, *sorted(args.work.glob(WIDE.format("*")))]
    jobs, models = [], []
    for seed in range(members):
        output = args.work / f"round-{number}-seed-{seed}"
        models.append(output / "model.hff")
        if models[-1].exists():
            continue
        settings: dict[str, Any] = {
            "output": str(output),
            "seed": seed,
            "data.train": [str(path) for path in sets],
            "data.validation": [str(args.work / "validation.db")],
            "limits.cpu_hours": hours,
        }
        before = args.work / f"round-{number - 1}-seed-{seed}" / "model.hff"
        if number == 0:
            before = None if args.start is None else first_model(args)
        if before is not None:
            settings |= {"model.start": str(before), **CONTINUED}
        asked = args.work / f"{output.name}.yaml"
        asked.write_text(TrainConfig.load(CONFIG, settings).to_yaml())
        command = [sys.executable, "-m", "hff_ase", "train", "--config", str(asked)]
        command += ["--resume", str(output)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        jobs.append(subprocess.Popen(command, env=environment))
    if any(job.wait() for job in jobs):
        raise SystemExit("a training failed: see its messages above")
    return models


def add_round(args: argparse.Namespace, number: int, models: list[Path], teacher: HybridFF) -> None:
    """Frames of the student's own dynamics on which the committee disagrees, labelled."""
    target = args.work / f"round-{number}.db"
    if target.exists():
        return
    liquids = {name: LIQUIDS[name] for name in args.only}
    frames = sampled(args, f"round-{number}", number, models[0], liquids)
    _, spreads = Committee.load(models).evaluate(frames)
    chosen = most_uncertain(
        frames, [s.largest(0.99) for s in spreads], args.frames, args.per_system
    )
    write_labelled(chosen, teacher, target)


def add_wide(args: argparse.Namespace, number: int, model: Path, teacher: HybridFF) -> None:
    """Random mixtures, clusters out of them, and molecules of both distorted; the first time what
    the rounds did not choose, too.

    All labelled, before the training of this number.
    """
    target = args.work / WIDE.format(number)
    wanted = dict(enumerate(args.mixtures, start=args.rounds))
    if target.exists() or not wanted.get(number):
        return
    first = min(training for training, mixtures in wanted.items() if mixtures)
    mixtures = random_mixtures(wanted[number], seed=number, n_atoms=args.atoms)
    frames = sampled(args, f"mixtures-{number}", number, model, mixtures)
    clusters = clusters_in(frames, args.clusters, seed=number)
    for k in range(args.rounds if number == first else 0):
        chosen = {place(atoms) for atoms in read_frames(args.work / f"round-{k}.db")}
        of_the_round = read(args.work / f"round-{k}-sampled.extxyz", ":")
        frames += [atoms for atoms in of_the_round if place(atoms) not in chosen]
    bent = distorted([*frames, *clusters], args.distorted, seed=number)
    write_labelled([*frames, *clusters, *bent], teacher, target)


def clusters_in(frames: Sequence[Atoms], number: int, seed: int) -> list[Atoms]:
    """Clusters of molecules in vacuum, cut out of some of the frames: surfaces, gases, pairs."""
    rng = np.random.default_rng(seed)
    found: list[Atoms] = []
    for k in rng.permutation(len(frames))[:number]:
        try:
            clusters = cut_clusters(frames[k], seed=seed + int(k), **CLUSTERS)
        except StructureError:  # a bond broke: what is left is no molecule
            continue
        if clusters:
            found.append(clusters[rng.integers(len(clusters))])
            found[-1].info["system"] = frames[k].info["system"]
    return found


def place(atoms: Atoms) -> tuple[str, float, int]:
    """What tells a frame of a round from the others."""
    info = atoms.info
    return str(info["system"]), round(float(info["temperature"]), 6), int(info["step"])


def write_labelled(frames: Sequence[Atoms], teacher: HybridFF, target: Path) -> None:
    """Labelled frames as a database, without those far from any liquid."""
    labelled = [atoms for atoms in label(frames, teacher) if largest_force(atoms) < TOO_FAR]
    write_database(labelled, target)


def sampled(
    args: argparse.Namespace, name: str, number: int, model: Path, liquids: dict[str, str]
) -> list[Atoms]:
    """Frames of molecular dynamics of liquids with a model."""
    path = args.work / f"{name}-sampled.extxyz"
    if path.exists():
        return list(read(path, ":"))
    calc = HybridFF.load(model)
    starts = draw_starts(liquids, seed=100 + number, copies=args.copies)
    structures = boxes(starts, args.atoms, 1000 * number, calc)
    frames: list[Atoms] = []
    for part in sample(
        calc, starts, structures, n_steps=args.steps, interval=args.interval, seed=number + 1
    ):
        frames += part
    write_whole(path, frames_text(frames).encode())
    return frames


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=Path, required=True, help="folder of .extxyz[.xz] boxes")
    parser.add_argument("--teacher", type=Path, required=True, help="BAMBOO weights, .npz or .pt")
    parser.add_argument("--work", type=Path, default=Path("electrolyte"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--hours",
        type=float,
        nargs="+",
        default=[0.2, 0.1, 0.1, 1.0],
        help="CPU time of a network in each training: in the rounds, then on everything",
    )
    parser.add_argument("--threads", type=int, default=1, help="of each training")
    parser.add_argument("--only", nargs="*", choices=list(LIQUIDS), default=list(LIQUIDS))
    parser.add_argument(
        "--mixtures",
        type=int,
        nargs="+",
        default=[60],
        help="random ones, sampled before each training after the rounds; none where none is given",
    )
    parser.add_argument("--clusters", type=int, default=600, help="cut out of each such sample")
    parser.add_argument("--distorted", type=int, default=900, help="made of each such sample")
    parser.add_argument("--start", help="model that the first training goes on from")
    parser.add_argument("--copies", type=int, default=1, help="boxes of each liquid per round")
    parser.add_argument("--atoms", type=int, default=200, help="of each box")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--interval", type=int, default=100, help="steps between two frames")
    parser.add_argument("--frames", type=int, default=400, help="labelled per round")
    parser.add_argument("--per-system", type=int, default=15)
    args = parser.parse_args()
    if len(args.hours) <= args.rounds:
        parser.error(f"expected more --hours than {args.rounds} rounds, got {args.hours}")
    if len(args.mixtures) > len(args.hours) - args.rounds:
        parser.error(
            f"expected --mixtures for at most the {len(args.hours) - args.rounds} trainings after "
            f"the rounds, got {args.mixtures}"
        )
    args.work.mkdir(parents=True, exist_ok=True)
    teacher = load_teacher(args.teacher)
    make_sets(args.boxes, teacher, args.work)
    models = [] if args.start is None else [first_model(args)]
    for number, hours in enumerate(args.hours):
        of_a_round = number < args.rounds
        if not of_a_round:
            add_wide(args, number, models[0], teacher)
        models = train_members(args, number, hours, MEMBERS if of_a_round else 1)
        if of_a_round:
            add_round(args, number, models, teacher)
    print(f"{models[0]}: now the card's tables, see models/recipes/README.md")


if __name__ == "__main__":
    main()
