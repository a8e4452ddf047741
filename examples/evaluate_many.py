"""Energies of many structures in one pass: how an ion pair holds together in vacuum."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from hff_ase import HybridFF
from hff_ase.dynamics.build import find_salt

calc = HybridFF.load("electrolyte")
anion = find_salt("LiPF6").anion
structures = []
for distance in np.linspace(2.5, 8.0, 12):
    pair = Atoms(["Li", *anion.symbols], np.vstack([[0.0, 0.0, 0.0], anion.positions]))
    pair.positions[0] = pair.positions[1] + [0.0, 0.0, distance]  # Li above P
    structures.append(pair)

for atoms, result in zip(structures, calc.evaluate(structures), strict=True):
    coulomb = result["energy_terms"]["coulomb"]
    print(
        f"Li-P {atoms.get_distance(0, 1):5.2f} A   E {result['energy']:10.4f} eV   "
        f"Coulomb {coulomb:8.4f} eV   q(Li) {result['charges'][0]:+.3f} e"
    )
