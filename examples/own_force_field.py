"""A force field put together from terms: equilibrated charges, D3 and a repulsive wall.

No network and nothing trained, so not a model of anything: it shows how terms combine, and that
energy, forces and stress of the sum come out of one pass.
"""

from __future__ import annotations

from ase.optimize import FIRE

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box
from hff_ase.potential import HybridPotential
from hff_ase.terms import TERMS
from hff_ase.terms.qeq_parameters import rappe_goddard

terms = {
    "charges": TERMS["qeq"](**rappe_goddard(["H", "Li", "C", "O", "F", "P"])),
    "dispersion": TERMS["d3"](method="pbe", cutoff=8.0),
    "wall": TERMS["zbl"](scale=1.0),
}
box = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 150)
box.calc = HybridFF(HybridPotential(terms))
print("energy by term (eV):", box.get_potential_energy(), box.calc.energy_terms)
print("pressure (eV/A^3):", -box.get_stress()[:3].mean())
FIRE(box, logfile=None).run(fmax=1.0, steps=5)
print("after 5 steps:", box.get_potential_energy())
