"""Small sample structures, made from formulas: what a potential has to cope with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import molecule

ELEMENTS = ("H", "Li", "C", "N", "O", "F", "P", "S")
MOLECULES = ("H2O", "CH3OH", "HCN", "LiF", "PH3", "CH3SH", "SO2")  # of ASE's G2 collection
SHEAR = np.array([[1.0, 0.0, 0.0], [0.2, 1.0, 0.0], [-0.15, 0.25, 1.0]])


def random_rotation(rng: np.random.Generator, improper: bool = False) -> np.ndarray:
    """A uniformly distributed rotation matrix [3, 3], with a reflection where ``improper``."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q)) * (-1.0 if improper else 1.0)


def ionic_box(
    formula: str = "Li4F4H2C2N2O2P1S1",
    spacing: float = 2.2,
    disorder: float = 0.3,
    charge: float = 0.0,
    seed: int = 0,
) -> Atoms:
    """A dense, disordered, triclinic box of the atoms of a formula.

    Atoms sit on a distorted lattice in random order, so that close pairs of most elements occur;
    the cell has no symmetry and no component that is zero, and is smaller than most cutoffs.

    Args:
        formula: chemical formula.
        spacing: lattice spacing, Angstrom.
        disorder: largest displacement along each axis, Angstrom.
        charge: total charge, e.
        seed: of the random generator.
    """
    rng = np.random.default_rng(seed)
    symbols = Atoms(formula).get_chemical_symbols()
    edge = round(len(symbols) ** (1 / 3)) or 1
    shape = np.array([edge, edge, -(-len(symbols) // edge**2)])
    sites = np.indices(tuple(shape.tolist())).reshape(3, -1).T[: len(symbols)]
    cell = (spacing * shape)[:, None] * SHEAR
    rotation = random_rotation(rng)
    moved = rng.uniform(-disorder, disorder, (len(symbols), 3))
    atoms = Atoms(
        symbols=[symbols[k] for k in rng.permutation(len(symbols))],
        positions=(sites * spacing) @ SHEAR @ rotation.T + moved,
        cell=cell @ rotation.T,
        pbc=True,
    )
    atoms.info["charge"] = charge
    return atoms


def cluster(formula: str, charge: float = 0.0, seed: int = 0) -> Atoms:
    """A compact, disordered, non-periodic cluster of the atoms of a formula."""
    atoms = ionic_box(formula, charge=charge, seed=seed)
    atoms.pbc, atoms.cell = False, np.zeros((3, 3))
    return atoms


def hexafluorophosphate() -> Atoms:
    """The ion PF6-, slightly distorted."""
    axes = 1.6 * np.vstack([np.eye(3), -np.eye(3)])
    atoms = Atoms("PF6", np.vstack([np.zeros((1, 3)), axes]), info={"charge": -1.0})
    atoms.positions += np.random.default_rng(6).normal(scale=0.05, size=(7, 3))
    return atoms


def sample_structures(elements: Sequence[str] = ELEMENTS) -> dict[str, Atoms]:
    """Named structures of the given elements: molecules, ions, single atoms, boxes.

    Among them are boxes smaller than a cutoff, charged systems with and without a cell, and one
    atom alone, with and without a cell.
    """
    elements = tuple(elements)
    cycle = [elements[k % len(elements)] for k in range(12)]
    first, last = elements[0], elements[-1]
    samples = {name: molecule(name) for name in MOLECULES}
    samples["PF6-"] = hexafluorophosphate()
    samples = {name: s for name, s in samples.items() if set(s.symbols) <= set(elements)}
    samples["atom"] = Atoms(first)
    samples["ion"] = Atoms(last, [[1.0, -2.0, 30.0]], info={"charge": 1.0})
    samples["cluster"] = cluster("".join(cycle[:7]), seed=1)
    samples["charged cluster"] = cluster("".join(cycle), charge=-1.0, seed=2)
    samples["box"] = ionic_box("".join(cycle) * 2, seed=3)
    samples["charged box"] = ionic_box("".join(cycle[:8]), charge=1.0, seed=4)
    samples["tiny box"] = ionic_box(first + last, seed=5)
    samples["one atom, periodic"] = ionic_box(last, spacing=3.0, seed=6)
    return samples
