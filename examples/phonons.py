"""Vibrations of an ethylene carbonate molecule by phonopy: all displacements in one batch.

A crystal goes the same way with its own cell and a supercell matrix larger than one.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import LBFGS

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box

PER_CM = 33.3564095198152  # THz to 1/cm


def relaxed_molecule(calc: HybridFF) -> Atoms:
    """Ethylene carbonate at a minimum of the force field, without a cell."""
    box = build_box("EC:DMC 1:1 v/v", 100, seed=1)
    molecule = box[box.arrays["molecule"] == 0]
    molecule = Atoms(molecule.numbers, molecule.positions)
    molecule.calc = calc
    LBFGS(molecule, logfile=None).run(fmax=1e-4, steps=500)
    return molecule


def force_constants(molecule: Atoms, calc: HybridFF) -> Any:
    """A phonopy object with force constants [n_atoms, n_atoms, 3, 3] in eV/Angstrom^2."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    # phonopy wants a cell; the displaced molecules are evaluated without one
    boxed = molecule.copy()
    boxed.center(vacuum=10.0)
    cell = PhonopyAtoms(
        numbers=boxed.numbers, positions=boxed.positions, cell=np.array(boxed.cell),
        masses=boxed.get_masses(),
    )  # fmt: skip
    phonons = Phonopy(cell, np.eye(3), primitive_matrix=np.eye(3), is_symmetry=False)
    phonons.generate_displacements(distance=0.01, is_plusminus=True)
    displaced = [Atoms(s.numbers, s.positions) for s in phonons.supercells_with_displacements]
    phonons.forces = np.array([result["forces"] for result in calc.evaluate(displaced)])
    phonons.produce_force_constants()
    return phonons


def frequencies(phonons: Any) -> np.ndarray:
    """Frequencies [3 n_atoms] in 1/cm, ascending; imaginary ones are negative."""
    return np.sort(phonons.run_qpoints([[0.0, 0.0, 0.0]]).frequencies[0]) * PER_CM


if __name__ == "__main__":
    if find_spec("phonopy") is None:
        print("this example needs phonopy: pip install phonopy")
    else:
        force_field = HybridFF.load("electrolyte", dtype="float64")
        found = force_constants(relaxed_molecule(force_field), force_field)
        left = np.abs(found.force_constants.sum(axis=1)).max()
        print(f"acoustic sum rule: at most {left:.1e} eV/A^2 is left")
        print("frequencies (1/cm):", " ".join(f"{f:.0f}" for f in frequencies(found)))
