"""Fine-tuning: a shipped model learns the labels of another method, here a changed copy of itself.

Real labels come from ``hff label`` or from files (`hff_ase.data.frames.read_frames`). The table
compares the model as it is, fine-tuned, and its terms trained from random weights, on structures
that none of them was shown.
"""

from __future__ import annotations

import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from hff_ase import HybridFF
from hff_ase.calculators.finetune import compare

other = HybridFF.load("electrolyte")  # stands for another method
with torch.no_grad():
    other.potential.terms["short_range"].energy[-1].weight *= 1.05


def labelled(n: int, seed: int) -> list:
    """Distorted molecules with energies and forces of the other method."""
    frames = [molecule(("CH3OH", "H2CO", "CH3CH2OH")[k % 3]) for k in range(n)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=seed + k)
    for atoms, results in zip(frames, other.evaluate(frames), strict=True):
        atoms.calc = SinglePointCalculator(
            atoms, energy=results["energy"], forces=results["forces"]
        )
        # the model has dispersion, and so have these labels
        atoms.info["method_dispersion"] = "of the other method"
    return frames


comparison = compare(
    "electrolyte",
    labelled(12, seed=0),
    labelled(6, seed=100),
    adapt={"lora": {"rank": 4}, "refit_references": True},
    settings={
        "schedule": {"steps": 20, "warmup": 2},
        "batching": {"batch_size": 4},
        "logging": {"progress": False, "plot": False},
    },
)
print(comparison.markdown())
