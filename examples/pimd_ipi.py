"""Path integrals of a small electrolyte: i-PI in this process, all beads in one forward pass.

Needs i-PI: pip install 'hff-ase[pimd]'.
"""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec

from ase.io import write
from ase.optimize import LBFGS

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.pimd import PIMDConfig, PIMDRun
from hff_ase.dynamics.pimd.results import read_properties


def main() -> None:
    """Ten steps of four beads."""
    from ipi.scripting import InteractiveSimulation

    atoms = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 150, seed=1)
    atoms.calc = HybridFF.load("electrolyte")
    LBFGS(atoms, logfile=None).run(fmax=2.0, steps=30)
    write("box.extxyz", atoms, columns=["symbols", "positions"])
    config = PIMDConfig.load(
        {
            "structure": "box.extxyz",
            "model": "electrolyte",
            "beads": 4,
            "temperature": 300.0,
            "time": "5fs",
            "timestep": 0.5,
            "statistics_interval": 2,
        }
    )
    run = PIMDRun.create(config)
    properties = run["pimd.properties"].resolve()
    text = run["input.xml"].read_text()
    os.chdir(run.folder)  # where i-PI looks for the structure and writes its output
    InteractiveSimulation(text).run(config.n_steps)
    columns = read_properties(properties)
    n_hydrogen = int((atoms.numbers == 1).sum())
    for step, energy in zip(columns["step"], columns["kinetic_cv(H){electronvolt}"], strict=True):
        print(f"step {step:3.0f}   kinetic energy of H {1000 * energy / n_hydrogen:6.1f} meV/atom")


if find_spec("ipi") is None:
    print("this example needs i-PI: pip install 'hff-ase[pimd]'")
else:
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            main()
        finally:
            os.chdir(here)
