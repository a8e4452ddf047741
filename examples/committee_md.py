"""Dynamics watched by a committee: frames on which models disagree are collected for labelling.

The members would be models of different seeds; here they are copies of the shipped one, changed
a little. On the command line this is ``hff md BOX --model a.hff --committee b.hff --committee c.hff
--max-spread 0.1 --collect collected.extxyz``.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ase.io import read

from hff_ase import HybridFF
from hff_ase.calculators.committee import Committee
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.md import MDConfig, MDRun

box = build_box("EC:DMC 1:1 v/v", 100, seed=1)
model, *others = members = [HybridFF.load("electrolyte") for _ in range(3)]
for seed, member in enumerate(others):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in member.potential.terms["short_range"].energy.parameters():
            weight *= 1 + 0.1 * torch.randn(weight.shape, generator=generator)

# as a calculator: the mean of all, and their spread
committee = Committee(members)
box.calc = committee
print(f"energy {box.get_potential_energy():.3f} eV, spread {committee.spread.energy:.3f} eV")

# in dynamics: the first model moves the atoms, the others look at them every 10 steps
with TemporaryDirectory() as folder:
    config = MDConfig(
        time="30fs", ensemble="nvt", minimize_steps=20, output=folder, progress=False, plot=False,
        max_spread=0.01, collect="collected.extxyz", collect_spacing=20,
    )  # fmt: skip
    MDRun.start(config, box, model, committee=others).run()
    for frame in read(Path(folder) / "collected.extxyz", ":"):
        spread = frame.arrays["forces_spread"]
        worst = int(np.argmax(spread))
        print(
            f"step {frame.info['step']:3d}: the force on atom {worst} ({frame.symbols[worst]}) "
            f"has a spread of {spread[worst]:.3f} eV/A"
        )
