"""Train a small force field on frames that another calculator labelled, then use it.

The labels come from EMT, for copper; put your own frames with energies and forces in their place.
Takes about a minute.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from hff_ase.calculators.finetune import train

rng = np.random.default_rng(0)
frames = []
for _ in range(40):
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.set_cell(atoms.cell * rng.uniform(0.97, 1.03), scale_atoms=True)
    atoms.rattle(0.1, rng=rng)
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    stress = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
    frames.append(atoms)

with tempfile.TemporaryDirectory() as folder:
    write(Path(folder) / "copper.extxyz", frames)
    calc = train(
        {
            "output": f"{folder}/run",
            "model": {
                "name": "copper",
                "elements": ["Cu"],
                "terms": {
                    "short_range": {
                        "network": "get",
                        "options": {"channels": 16, "heads": 4, "layers": 2, "cutoff": 4.0},
                    }
                },
            },
            "data": {"train": f"{folder}/copper.extxyz", "split": {"fraction": 0.2}},
            "schedule": {"epochs": 20, "warmup": 20},
            "optimizer": {"learning_rate": 5e-3},
            "ema": {"decay": 0.98},
        }
    )

print(f"forces RMSE {1e3 * calc.info.details['validation']['forces_rmse']:.0f} meV/A")
atoms = bulk("Cu", cubic=True) * (2, 2, 2)
atoms.rattle(0.1, seed=1)
atoms.calc = calc
print("largest force", np.abs(atoms.get_forces()).max(), "eV/A")
