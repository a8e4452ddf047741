"""Our networks trained on the EC/EMC boxes for a given CPU time, by the package's own trainer.

    python benchmarks/ecemc/ours.py train.xyz OUTPUT --variant get --cpu-seconds 1800

Settings are `ours.yaml` with what the variant changes, then --set. The same split, clock, errors
and lines of log as the peers' scripts; a run that was stopped continues when it is started again.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from ase.io import write

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
from train_common import Data, errors, options, read_data, speed, write_line

from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.calculators.finetune import train
from hff_ase.data.dataset import MemoryDataset
from hff_ase.neighbors import NeighborList
from hff_ase.potential import HybridPotential
from hff_ase.settings.yaml_text import assignments
from hff_ase.terms.qeq_parameters import rappe_goddard
from hff_ase.training.config import TrainConfig
from hff_ase.training.loop.distributed import Processes
from hff_ase.training.loop.optim import make_optimizer
from hff_ase.training.loop.step import Stepper

SETTINGS = Path(__file__).with_name("ours.yaml")
TERM = "model.terms.short_range"
E3 = [
    f"{TERM}.network=e3",
    "optimizer={kind: soap, learning_rate: 5e-3, betas: [0.95, 0.99]}",
    "batching.batch_size=2",
]


def _e3(channels: int, l_max: int, layers: int = 3) -> list[str]:
    shape = {"channels": channels, "l_max": l_max, "layers": layers, "cutoff": 5.0}
    return [*E3, f"{TERM}.options={json.dumps(shape | {'avg_neighbors': 39.0})}"]


def _qeq() -> list[str]:
    tables = rappe_goddard(["H", "C", "O"])
    charges = {"kind": "feature_qeq", "cutoff": 6.0, "tolerance": 1e-4, **tables}
    return [f"model.terms.charges={json.dumps(charges)}"]


VARIANTS: dict[str, list[str]] = {
    "get": [],
    "get-48": [f"{TERM}.options={{channels: 48, heads: 16, layers: 3, cutoff: 5.0}}"],
    "get-2": [f"{TERM}.options={{channels: 64, heads: 16, layers: 2, cutoff: 5.0}}"],
    "get-qeq": _qeq(),
    "e3-l0": _e3(64, 0),
    "e3-l1": _e3(32, 1),
    "e3-l2": _e3(32, 2),
    "e3-l3": _e3(16, 3),
}


class Ours:
    """A trained model behind what the measurements of the peers ask for."""

    def __init__(self, potential: HybridPotential, data: Data) -> None:
        self.potential, self.data = potential, data
        self.parameters = sum(p.numel() for p in potential.parameters())
        self._given: dict[int, tuple[AtomsBatch, NeighborList]] = {}

    def predict(self, frame: int) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy, forces, stress of one frame; neighbours are searched at the first call only."""
        if frame not in self._given:
            batch = AtomsBatch.from_atoms([self.data.frames[frame]])
            self._given[frame] = batch, self.potential.neighbor_list()
        found = self.potential(*self._given[frame])
        forces, stress = (value.detach().double().numpy() for value in (found.forces, found.stress))
        return float(found.energy.detach()[0]), forces, stress[0]


class OursInTraining(Ours):
    """Also takes training steps, on a copy."""

    def __init__(self, potential: HybridPotential, data: Data, config: TrainConfig) -> None:
        super().__init__(potential, data)
        trained = copy.deepcopy(potential).train()
        for name, parameter in trained.named_parameters():
            parameter.requires_grad_(not name.endswith("reference_energy"))
        self.stepper = Stepper(
            trained,
            make_optimizer(trained, config.optimizer),
            torch.device("cpu"),
            Processes(),
            clip=config.optimizer.clip,
        )
        self.weights = config.loss.weights(0.0)
        self.labelled = MemoryDataset.from_atoms([data.frames[k] for k in data.sets["train"]])
        self.place = {k: row for row, k in enumerate(data.sets["train"])}

    def step(self, frames: list[int]) -> None:
        """The trainer's step, at no learning rate."""
        self.stepper.step([self.labelled[self.place[k]] for k in frames], self.weights, rate=0.0)


def settings(args: argparse.Namespace, data: Data) -> TrainConfig:
    """The resolved configuration; writes the frames that it names."""
    args.output.mkdir(parents=True, exist_ok=True)
    for name in data.sets:
        write(args.output / f"{name}.extxyz", [data.frames[k] for k in data.sets[name]])
    energies = {chemical_symbols[z]: e + data.binding for z, e in data.isolated.items()}
    replaced = {
        **assignments(VARIANTS[args.variant]),
        "model.name": f"ecemc-{args.variant}",
        "output": str(args.output / "run"),
        "seed": args.seed,
        "data.train": [str(args.output / "train.extxyz")],
        "data.validation": [str(args.output / "validation.extxyz")],
        "data.reference_energies": energies,
        "limits.cpu_hours": args.cpu_seconds / 3600.0,
    }
    if args.batch_size is not None:
        replaced["batching.batch_size"] = args.batch_size
    if args.rate is not None:
        replaced["optimizer.learning_rate"] = args.rate
    return TrainConfig.load(SETTINGS, {**replaced, **assignments(args.set)})


def curve(folder: Path) -> list[dict[str, Any]]:
    """Rows of the trainer's log as the peers write theirs."""
    rows = []
    for line in (folder / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        validation = {
            name: 1e3 * row[key]
            for name in ("energy", "forces", "stress")
            for key in (f"validation_{name}_rmse", f"{name}_rmse")
            if row.get(key) is not None
        }
        if validation and "cpu_seconds" in row:
            written = {"cpu_s": row["cpu_seconds"], "steps": row["step"], "validation": validation}
            rows.append(written)
    return rows


def main() -> None:
    """Train, or measure speed."""
    parser = options(__doc__, tuple(VARIANTS))
    parser.set_defaults(rate=None, batch_size=None)
    parser.add_argument("--set", action="append", default=[], help="section.key=value")
    args = parser.parse_args()
    args.output = args.output.resolve()
    torch.set_num_threads(1)
    keep_memory()
    data = read_data(args.frames, args.split)
    config = settings(args, data)
    run = args.output / "run"
    facts = {"peer": "hff", "variant": args.variant, "seed": args.seed}
    if args.speed:
        model = HybridFF.load(str(run / "model.hff"))
        speed(OursInTraining(model.potential, data, config), data, args, **facts)
        return
    calculator = train(config, resume=(run / "state.pt").exists())
    learner = Ours(calculator.potential, data)
    log = args.output / "log.jsonl"
    log.unlink(missing_ok=True)
    facts |= {"parameters": learner.parameters, "cpu_budget": args.cpu_seconds}
    facts |= {"batch_size": config.batching.batch_size, "rate": config.optimizer.learning_rate}
    write_line(log, {"settings": facts | {"torch": torch.__version__, "threads": 1}})
    rows = curve(run)
    for row in rows:
        write_line(log, row)
    final = dict(rows[-1]) if rows else {"cpu_s": args.cpu_seconds}
    write_line(log, final | {name: errors(learner, data, name) for name in ("validation", "test")})


if __name__ == "__main__":
    main()
