"""Make the shipped model `electrolyte-preview` from labelled boxes, from random weights.

python -m hff_ase.training.electrolyte_preview --frames FOLDER --output electrolyte-preview.hff
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from ase import Atoms
from ase.data import atomic_numbers

from hff_ase.checkpoint import ModelInfo, save_model
from hff_ase.files import write_whole
from hff_ase.potential import HybridPotential
from hff_ase.terms.bamboo_dispersion import BambooDispersion
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.terms.repulsion import ZBL
from hff_ase.terms.short_range import ShortRange
from hff_ase.training.frames import read_folder, split_by_segment
from hff_ase.training.report import collect, markdown_tables
from hff_ase.training.trainer import (
    TrainSettings,
    fit_reference_energies,
    prepare,
    train,
)
from hff_ase.units import KCAL_PER_MOL

ELEMENTS = ("H", "Li", "C", "N", "O", "F", "P", "S")
# What the labels were computed with: D3 reference C6 averaged over coordination numbers
# (kcal/mol A^6) and the D3(0) radii (A); the labels' Coulomb energy is damped below 2.2 A.
C6 = (69.22, 6246.05, 440.66, 282.24, 176.22, 114.96, 2404.9, 1794.7)
R0 = (2.1823, 3.4956, 2.9103, 2.6225, 2.4817, 2.2996, 3.5017, 3.3107)
DAMPING = (2.2, 18.7)
SEGMENT = 7  # frames of one continuous piece of trajectory
HELD_OUT = (3, 10)  # segments of each file that are never trained on
# Method, cutoff (A) and tolerance. Training needs the gradient, not its last digits; MD shares
# the list of pairs within 10 A with dispersion.
TRAINING_COULOMB = ("ewald", 6.0, 1e-4)
SHIPPED_COULOMB = ("pme", 10.0, 1e-5)


def dispersion() -> BambooDispersion:
    """The dispersion that the labels contain."""
    return BambooDispersion(
        c6={s: c6 * KCAL_PER_MOL for s, c6 in zip(ELEMENTS, C6, strict=True)},
        r0=dict(zip(ELEMENTS, R0, strict=True)),
    )


def trainable(channels: int, layers: int, seed: int) -> HybridPotential:
    """Network, charges and Coulomb, with random weights."""
    torch.manual_seed(seed)
    options = {"channels": channels, "heads": channels // 4, "layers": layers, "cutoff": 5.0}
    return HybridPotential(
        {
            "short_range": ShortRange(ELEMENTS, "get", options),
            "charges": PredictedCharges(ELEMENTS, channels),
            "coulomb": Coulomb(*TRAINING_COULOMB, DAMPING),
        },
        ELEMENTS,
    )


def split(frames: Sequence[Sequence[Atoms]]) -> tuple[list[Atoms], list[Atoms]]:
    """Training and held-out frames of all files."""
    pairs = [split_by_segment(of_file, SEGMENT, HELD_OUT) for of_file in frames]
    return [a for train_, _ in pairs for a in train_], [a for _, test in pairs for a in test]


def shipped(trained: HybridPotential) -> HybridPotential:
    """The model that is shipped: the trained terms with Coulomb as MD needs it, and the rest.

    The repulsive wall ends below every distance in the frames, so it changes nothing there.
    """
    terms = dict(trained.named_terms())
    terms["coulomb"] = Coulomb(*SHIPPED_COULOMB, DAMPING)
    return HybridPotential(terms | {"dispersion": dispersion(), "wall": ZBL()}, ELEMENTS)


def write_model(
    potential: HybridPotential, test_frames: Sequence[Atoms], settings: TrainSettings, output: Path
) -> None:
    """Write the .hff file and, beside it, its card with the errors on the held-out frames."""
    potential.set_dtype(torch.float32).requires_grad_(False).eval()
    errors = collect(potential, test_frames)
    summary = {
        "forces_rmse_eV_per_A": errors.rmse("forces"),
        "charges_rmse_e": errors.rmse("charges"),
        "energy_rmse_eV_per_atom": errors.rmse("energy"),
        "pressure_rmse_bar": errors.rmse("pressure"),
    }
    info = ModelInfo(
        name="electrolyte-preview",
        description="carbonate, ester and ether-like solvents with LiPF6, LiFSI, LiTFSI: a preview",
        licence="Apache-2.0",
        provenance="GET from random weights on boxes labelled with the published BAMBOO model",
        trained_with=("short_range", "charges", "coulomb", "dispersion"),
        details={"settings": asdict(settings), "held_out": summary},
    )
    water = Atoms("OH2", [[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    save_model(output, potential, info, [water, test_frames[0]])
    write_whole(output.with_suffix(".errors.md"), markdown_tables(errors).encode())


def main() -> None:
    """Train and write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--frames", type=Path, required=True, help="folder of labelled .extxyz[.xz]"
    )
    parser.add_argument("--output", type=Path, required=True, help="the .hff file to write")
    parser.add_argument("--work", type=Path, default=Path("electrolyte-preview-run"))
    parser.add_argument("--steps", type=int, default=54_000)
    parser.add_argument("--channels", type=int, default=48)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    train_frames, test_frames = split(read_folder(args.frames))
    fixed = HybridPotential({"dispersion": dispersion()}, ELEMENTS)
    dataset = prepare(train_frames, fixed)
    validation = prepare(test_frames[:: 2 * SEGMENT + 1], fixed)
    potential = trainable(args.channels, args.layers, args.seed)
    numbers = [atomic_numbers[symbol] for symbol in ELEMENTS]
    reference = cast(ShortRange, potential.terms["short_range"]).reference_energy
    reference.data.copy_(fit_reference_energies(dataset, numbers))
    settings = TrainSettings(steps=args.steps, seed=args.seed)
    train(
        potential,
        dataset,
        validation,
        settings,
        args.work,
        report=lambda row: print(row, flush=True),
    )


if __name__ == "__main__":
    main()
