"""NequIP trained on the EC/EMC boxes for a given CPU time.

    venv-nequip/bin/python nequip_train.py train.xyz OUTPUT --variant l1 --cpu-seconds 1800

Its own model, transforms of the data, loss and averaged weights (0.999), Adam with amsgrad;
energy per atom, forces and stress weigh 1, energy 10 in stage two. Energies of types are those of
the isolated atoms plus the mean binding energy, the scale is the RMS of the forces.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from common import CUTOFF
from nequip.data import AtomicDataDict
from nequip.data.ase import from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import NequIPGNNModel
from nequip.train import EnergyForceStressLoss
from nequip.train.ema import EMAWeights
from nequip.utils.global_state import set_global_state
from train_common import Data, options, read_data, run

VARIANTS: dict[str, dict[str, Any]] = {
    "l1": {"l_max": 1, "num_layers": 3, "num_features": 32},
    "l1-even": {"l_max": 1, "num_layers": 3, "num_features": 32, "parity": False},
    "l1-64": {"l_max": 1, "num_layers": 3, "num_features": 64, "parity": False},
    "l2": {"l_max": 2, "num_layers": 3, "num_features": 32, "parity": False},
    "small": {"l_max": 1, "num_layers": 2, "num_features": [128, 64], "parity": False},
}
AVERAGE = 0.999
TOTAL, FORCES, STRESS = (
    AtomicDataDict.TOTAL_ENERGY_KEY,
    AtomicDataDict.FORCE_KEY,
    AtomicDataDict.STRESS_KEY,
)
STAGES = ({TOTAL: 1.0, FORCES: 1.0, STRESS: 1.0}, {TOTAL: 10.0, FORCES: 1.0, STRESS: 1.0})


class Nequip:
    """NequIP behind the common interface."""

    def __init__(self, data: Data, args: argparse.Namespace) -> None:
        set_global_state()
        numbers = sorted(data.isolated)
        symbols = [chemical_symbols[z] for z in numbers]
        self.graphs = graphs_of(data, symbols)
        edges = [self.graphs[k][AtomicDataDict.EDGE_INDEX_KEY].shape[1] for k in data.sets["train"]]
        atoms = sum(len(data.frames[k]) for k in data.sets["train"])
        shifts = {chemical_symbols[z]: e + data.binding for z, e in data.isolated.items()}
        self.model = NequIPGNNModel(
            seed=args.seed,
            model_dtype="float32",
            compile_mode="compile" if args.compile else "eager",
            r_max=CUTOFF,
            type_names=symbols,
            avg_num_neighbors=sum(edges) / atoms,
            per_type_energy_shifts=shifts,
            per_type_energy_scales=dict.fromkeys(symbols, data.forces_rms),
            **VARIANTS[args.variant],
        )
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.rate = args.rate
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=args.rate, amsgrad=True)
        self.average = EMAWeights(self.model, decay=AVERAGE)
        self.average.update_parameters(self.model)
        self.losses = [EnergyForceStressLoss(coeffs=c, type_names=symbols) for c in STAGES]
        self.loss = self.losses[0]

    def set_rate(self, factor: float, stage_two: bool) -> None:
        """Of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.rate
        self.loss = self.losses[stage_two]

    def step(self, frames: list[int]) -> None:
        """As the package's Lightning module does it."""
        batch = AtomicDataDict.batched_from_list([self.graphs[k] for k in frames])
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.model(batch.copy()), batch)["weighted_sum"]
        loss.backward()
        self.optimizer.step()
        self.average.update_parameters(self.model)

    def predict(self, frame: int) -> tuple[float, np.ndarray, np.ndarray]:
        """With averaged weights, which want no gradients."""
        self.average.swap_parameters(self.model)
        self.model.eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        result = self.model(self.graphs[frame].copy())
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        self.model.train()
        self.average.swap_parameters(self.model)
        forces, stress = (result[key].detach().double().numpy() for key in (FORCES, STRESS))
        return float(result[TOTAL].item()), forces, stress[0]

    def state(self) -> dict[str, Any]:
        """Weights, optimizer, average."""
        parts = {"model": self.model, "optimizer": self.optimizer, "average": self.average}
        return {name: part.state_dict() for name, part in parts.items()}

    def load(self, state: dict[str, Any]) -> None:
        """As `state` gave it."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])


def graphs_of(data: Data, symbols: list[str]) -> list[AtomicDataDict.Type]:
    """Frames with types and neighbours, made once."""
    transforms = (
        ChemicalSpeciesToAtomTypeMapper(model_type_names=symbols),
        NeighborListTransform(r_max=CUTOFF),
    )
    graphs = []
    for atoms in data.frames:
        graph = from_ase(atoms)
        if len(atoms) > 1:  # isolated atoms have no pairs and are not trained on
            for transform in transforms:
                graph = transform(graph)
        graphs.append(graph)
    return graphs


def main() -> None:
    """Train, or measure speed."""
    parser = options(__doc__, tuple(VARIANTS))
    parser.add_argument("--compile", action="store_true", help="the package's compiled training")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = read_data(args.frames, args.split)
    facts = {"details": VARIANTS[args.variant], "compiled": args.compile}
    run(Nequip(data, args), data, args, peer="nequip", **facts)


if __name__ == "__main__":
    main()
