"""Plain ASE molecular dynamics of a small electrolyte with the shipped model."""

from __future__ import annotations

import numpy as np
from ase import units
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import LBFGS

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box

atoms = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 150, seed=1)
atoms.calc = HybridFF.load("electrolyte")
LBFGS(atoms, logfile=None).run(fmax=1.0, steps=100)
thermalize_momenta(atoms, temperature_K=300.0, rng=np.random.default_rng(0))
md = LangevinBAOAB(
    atoms,
    timestep=1.0 * units.fs,
    temperature_K=300.0,
    T_tau=100.0 * units.fs,
    rng=np.random.default_rng(0),
)
for _ in range(5):
    md.run(10)
    print(
        f"{md.get_time() / units.fs:6.1f} fs   {atoms.get_temperature():6.1f} K   "
        f"E {atoms.get_potential_energy():.3f} eV"
    )
