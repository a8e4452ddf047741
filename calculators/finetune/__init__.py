"""Tuning a hybrid force field: each takes a calculator, frames or ensembles."""

from __future__ import annotations

from hff_ase.calculators.finetune.align import align
from hff_ase.calculators.finetune.calibrate import calibrate
from hff_ase.calculators.finetune.comparison import Comparison, compare
from hff_ase.calculators.finetune.conditioning import conditioning
from hff_ase.calculators.finetune.distill import distill
from hff_ase.calculators.finetune.finetune import finetune, train_from_scratch
from hff_ase.calculators.finetune.fit_physics import PhysicsFit, fit_physics
from hff_ase.calculators.finetune.train import train

__all__ = [
    "Comparison",
    "PhysicsFit",
    "align",
    "calibrate",
    "compare",
    "conditioning",
    "distill",
    "finetune",
    "fit_physics",
    "train",
    "train_from_scratch",
]
