"""QM/MM by ASE: one molecule of a liquid by GFN2-xTB, everything else by the force field.

The coupling is subtractive: E = E_xTB(molecule) + E_FF(box) - E_FF(molecule), so that the
molecule feels its surroundings through the force field's charges and dispersion.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.qmmm import SimpleQMMM
from ase.optimize import LBFGS

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box


def embedded(box: Atoms, molecule: int, quantum: Calculator) -> SimpleQMMM:
    """A calculator for ``box`` with one of its molecules, a whole one, by ``quantum``."""
    inside = np.flatnonzero(box.arrays["molecule"] == molecule)
    # two calculators: each follows one structure with its own neighbour list
    alone, everything = HybridFF.load("electrolyte"), HybridFF.load("electrolyte")
    return SimpleQMMM(inside, quantum, alone, everything)


if __name__ == "__main__":
    if find_spec("tblite") is None:
        print("this example needs tblite: pip install 'hff-ase[labels]'")
    else:
        from tblite.ase import TBLite

        liquid = build_box("EC:DMC 1:1 v/v", 100, seed=1)
        liquid.calc = embedded(liquid, 0, TBLite(method="GFN2-xTB", verbosity=0))
        for step in range(3):
            print(f"{5 * step:2d} steps: {liquid.get_potential_energy():.3f} eV")
            LBFGS(liquid, logfile=None).run(fmax=0.1, steps=5)
