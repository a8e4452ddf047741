"""MACE trained on the EC/EMC boxes for a given CPU time.

    venv-mace/bin/python mace_train.py train.xyz OUTPUT --variant 32x1o --cpu-seconds 1800

Its own model, loss, training step, Adam groups, averaged weights and statistics of the data, with
the defaults of its training program: amsgrad, weight decay 5e-7, clipping at 10, average 0.99,
forces 100 and energy 1 (1000 in stage two), stress 1 (10). In float32, which is not its default
but is faster.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from common import CUTOFF
from e3nn import o3
from mace.data import AtomicData, KeySpecification, config_from_atoms
from mace.modules import (
    ScaleShiftMACE,
    WeightedEnergyForcesStressLoss,
    compute_avg_num_neighbors,
    compute_mean_rms_energy_forces,
    interaction_classes,
)
from mace.tools import AtomicNumberTable
from mace.tools.scripts_utils import get_params_options
from mace.tools.torch_geometric.batch import Batch
from mace.tools.train import take_step
from torch_ema import ExponentialMovingAverage
from train_common import Data, options, read_data, run

# hidden irreps, max_ell of the edges, order of the many-body product
VARIANTS = {
    "32x1o": ("32x0e + 32x1o", 2, 3),
    "64x0e": ("64x0e", 3, 3),
    "32x0e": ("32x0e", 2, 3),
    "64x1o": ("64x0e + 64x1o", 3, 3),
}
KEYS = KeySpecification({"energy": "energy", "stress": "stress"}, {"forces": "reference_forces"})
OUTPUTS = {"forces": True, "virials": False, "stress": True}
CLIP = 10.0
AVERAGE = 0.99


class Mace:
    """MACE behind the common interface."""

    def __init__(self, data: Data, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        table = AtomicNumberTable(sorted(data.isolated))
        self.graphs = [graph_of(atoms, table) for atoms in data.frames]
        self.model = build(args.variant, data, [self.graphs[k] for k in data.sets["train"]], table)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        settings = argparse.Namespace(
            lr=args.rate,
            weight_decay=5e-7,
            amsgrad=True,
            beta=0.9,
            freeze=None,
            lr_params_factors="{}",
        )
        self.rate = args.rate
        self.optimizer = torch.optim.Adam(**get_params_options(settings, self.model))
        self.average = ExponentialMovingAverage(self.model.parameters(), decay=AVERAGE)
        self.losses = (
            WeightedEnergyForcesStressLoss(1.0, 100.0, 1.0),
            WeightedEnergyForcesStressLoss(1000.0, 100.0, 10.0),
        )
        self.loss = self.losses[0]

    def set_rate(self, factor: float, stage_two: bool) -> None:
        """Of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.rate
        self.loss = self.losses[stage_two]

    def step(self, frames: list[int]) -> None:
        """The package's own step."""
        take_step(
            model=self.model,
            loss_fn=self.loss,
            batch=Batch.from_data_list([self.graphs[k] for k in frames]),
            optimizer=self.optimizer,
            ema=self.average,
            output_args=OUTPUTS,
            max_grad_norm=CLIP,
            device=torch.device("cpu"),
        )

    def predict(self, frame: int) -> tuple[float, np.ndarray, np.ndarray]:
        """With averaged weights, which want no gradients."""
        batch = Batch.from_data_list([self.graphs[frame]]).to_dict()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        with self.average.average_parameters():
            result = self.model(batch, training=False, compute_force=True, compute_stress=True)
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        forces, stress = (result[name].detach().double().numpy() for name in ("forces", "stress"))
        return float(result["energy"][0]), forces, stress[0]

    def state(self) -> dict[str, Any]:
        """Weights, optimizer, average."""
        parts = {"model": self.model, "optimizer": self.optimizer, "average": self.average}
        return {name: part.state_dict() for name, part in parts.items()}

    def load(self, state: dict[str, Any]) -> None:
        """As `state` gave it."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])


def graph_of(atoms: Any, table: AtomicNumberTable) -> AtomicData:
    """A frame with its neighbours, made once."""
    atoms = atoms.copy() if len(atoms) == 1 else labelled(atoms)
    config = config_from_atoms(atoms, key_specification=KEYS)
    return AtomicData.from_config(config, z_table=table, cutoff=CUTOFF)


def labelled(atoms: Any) -> Any:
    """Labels where MACE reads them."""
    copy = atoms.copy()
    copy.info |= {"energy": atoms.get_potential_energy(), "stress": atoms.get_stress()}
    copy.arrays["reference_forces"] = atoms.get_forces()
    return copy


def build(
    variant: str, data: Data, graphs: list[AtomicData], table: AtomicNumberTable
) -> torch.nn.Module:
    """The network as the package's training program would make it."""
    hidden, max_ell, correlation = VARIANTS[variant]
    energies = np.array([data.isolated[z] for z in table.zs])
    batches = [Batch.from_data_list([graph]) for graph in graphs]
    mean, rms = compute_mean_rms_energy_forces(batches, energies)
    block = interaction_classes["RealAgnosticResidualInteractionBlock"]
    return ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=max_ell,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(table),
        hidden_irreps=o3.Irreps(hidden),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=energies,
        avg_num_neighbors=compute_avg_num_neighbors(batches),
        atomic_numbers=table.zs,
        correlation=correlation,
        radial_type="bessel",
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=rms,
        atomic_inter_shift=mean,
    )


def main() -> None:
    """Train, or measure speed."""
    args = options(__doc__, tuple(VARIANTS)).parse_args()
    torch.set_num_threads(1)
    data = read_data(args.frames, args.split)
    run(Mace(data, args), data, args, peer="mace", details=VARIANTS[args.variant])


if __name__ == "__main__":
    main()
