"""Small potentials with random weights for the tests of the core, and structures for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from hff_ase.potential import HybridPotential
from hff_ase.terms.bamboo_dispersion import BambooDispersion
from hff_ase.terms.bonded import Bonded
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.dispersion import D3Dispersion
from hff_ase.terms.excluded_coulomb import ExcludedCoulomb
from hff_ase.terms.exp6 import ChargeTransfer, Exp6
from hff_ase.terms.fixed_charges import FixedCharges
from hff_ase.terms.induced_dipoles import InducedDipoles
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.terms.qeq import FeatureQEq, QEq
from hff_ase.terms.repulsion import ZBL
from hff_ase.terms.short_range import ShortRange
from hff_ase.terms.term import Term
from hff_ase.testing import ELEMENTS, cluster, hexafluorophosphate, ionic_box

C6 = dict(zip(ELEMENTS, (3.0, 270.0, 19.0, 12.0, 7.6, 5.0, 104.0, 73.0), strict=True))  # eV A^6
R0 = dict(zip(ELEMENTS, (2.2, 3.5, 2.9, 2.8, 2.5, 2.3, 3.5, 3.4), strict=True))  # A
CHI = dict(zip(ELEMENTS, (4.5, 3.0, 5.3, 6.9, 8.7, 10.9, 5.5, 6.9), strict=True))  # eV
ETA = dict(zip(ELEMENTS, (13.9, 4.8, 10.1, 11.8, 13.4, 14.9, 8.0, 9.0), strict=True))  # eV
WIDTH = dict(zip(ELEMENTS, (0.4, 0.8, 0.7, 0.7, 0.6, 0.6, 0.8, 0.8), strict=True))  # A
SIZES = {"channels": 16, "heads": 4, "layers": 3, "n_radial": 8, "cutoff": 4.0}
# Terms that start from zero or small weights get ones large enough to matter.
GAIN = 3.0


def short_range(seed: int = 0) -> ShortRange:
    """GET and its head, with energies of the size of bonds."""
    torch.manual_seed(seed)
    term = ShortRange(ELEMENTS, "get", dict(SIZES), hidden=(16,))
    with torch.no_grad():
        term.energy[-1].weight *= GAIN
        term.reference_energy.copy_(torch.linspace(-30.0, -1.0, len(ELEMENTS)))
    return term


def predicted_charges(seed: int = 0) -> PredictedCharges:
    """Charges of up to an electron, with an energy of their own."""
    torch.manual_seed(seed + 1)
    term = PredictedCharges(ELEMENTS, SIZES["channels"], hidden=(16,))
    with torch.no_grad():
        term.charge[-1].weight *= GAIN
        term.initial_charge.copy_(torch.linspace(0.8, -0.6, len(ELEMENTS)))
        term.electronegativity.copy_(torch.linspace(1.0, 5.0, len(ELEMENTS)))
        term.hardness_root.copy_(torch.linspace(2.0, 3.0, len(ELEMENTS)))
    return term


def equilibration() -> QEq:
    """Charge equilibration with textbook-like numbers."""
    return QEq(CHI, ETA, WIDTH, cutoff=7.0, tolerance=1e-8)


def dispersion() -> BambooDispersion:
    """BAMBOO's form with other numbers."""
    return BambooDispersion(C6, R0, cutoff=7.0)


def hybrid(coulomb: str = "ewald", tolerance: float = 1e-8, seed: int = 0) -> HybridPotential:
    """Network, predicted charges, Coulomb, dispersion, repulsion; float32 networks."""
    terms: dict[str, Term] = {
        "short_range": short_range(seed),
        "charges": predicted_charges(seed),
        "coulomb": Coulomb(coulomb, 6.0, tolerance, (2.2, 18.7)),
        "dispersion": dispersion(),
        "zbl": ZBL(scale=1.0),
    }
    return HybridPotential(terms, ELEMENTS).requires_grad_(False).eval()


def equilibrated(seed: int = 0) -> HybridPotential:
    """Network, charge equilibration, D3; float32 networks."""
    terms: dict[str, Term] = {
        "short_range": short_range(seed),
        "charges": equilibration(),
        "dispersion": D3Dispersion("pbe", cutoff=7.0, cn_cutoff=6.0),
    }
    return HybridPotential(terms, ELEMENTS).requires_grad_(False).eval()


def feature_equilibrated(seed: int = 0) -> HybridPotential:
    """Network and charge equilibration with parameters from its features; float32 networks."""
    torch.manual_seed(seed + 2)
    tables = {"electronegativity": CHI, "hardness": ETA, "width": WIDTH}
    charges = FeatureQEq(SIZES["channels"], (8,), **tables, cutoff=7.0, tolerance=1e-8)
    with torch.no_grad():
        for parameter in charges.head[-1].parameters():
            parameter.normal_(std=0.1)
    terms: dict[str, Term] = {"short_range": short_range(seed), "charges": charges}
    return HybridPotential(terms, ELEMENTS).requires_grad_(False).eval()


def toy_molecules() -> list[dict[str, Any]]:
    """Water, a chain without hydrogens, and Li, with numbers of no special meaning."""
    water = {
        "name": "water", "numbers": [8, 1, 1], "bonds": [[0, 1], [0, 2]],
        "charge": [-0.8, 0.4, 0.4], "polarizability": [0.8, 0.3, 0.3], "damping": [0.9, 0.4, 0.4],
        "radius": [1.1, 0.8, 0.8], "epsilon": [3.0, 0.4, 0.4], "steepness": [3.8, 2.9, 2.9],
        "c6": [12.0, 1.5, 1.5], "strength": [0.4, 0.1, 0.1], "decay": [0.7, 0.4, 0.4],
        "bond_terms": [[0, 1, 30.0, 0.97], [0, 2, 30.0, 0.97]],
        "angle_terms": [[1, 0, 2, 3.0, 1.82]],
    }  # fmt: skip
    chain = {
        "name": "chain", "numbers": [8, 6, 6, 8, 9], "bonds": [[0, 1], [1, 2], [2, 3], [2, 4]],
        "charge": [-0.3, 0.2, 0.5, -0.3, -0.1], "polarizability": [0.9, 1.2, 1.1, 0.9, 0.5],
        "damping": [0.9, 1.2, 1.1, 0.9, 0.5], "radius": [1.1, 1.2, 1.2, 1.1, 1.0],
        "epsilon": [3.0, 5.0, 4.0, 3.0, 2.0], "steepness": [3.8, 4.0, 4.1, 3.8, 3.9],
        "c6": [12.0, 20.0, 18.0, 12.0, 8.0], "strength": [0.4, 0.3, 0.3, 0.4, 0.2],
        "decay": [0.7, 0.8, 0.8, 0.7, 0.6],
        "bond_terms": [[0, 1, 25.0, 1.4], [1, 2, 22.0, 1.5], [2, 3, 28.0, 1.3], [2, 4, 24.0, 1.35]],
        "angle_terms": [[0, 1, 2, 4.0, 1.9], [1, 2, 3, 4.0, 2.0], [1, 2, 4, 3.5, 2.1]],
        "proper_terms": [[0, 1, 2, 3, 0.1, -0.05, 0.07, 0.02], [0, 1, 2, 4, 0.02, 0.1, 0.0, 0.03]],
        "improper_terms": [[2, 1, 3, 4, 0.6]],
    }  # fmt: skip
    lithium = {
        "name": "Li", "numbers": [3], "bonds": [], "charge": [1.0], "polarizability": [0.03],
        "damping": [0.2], "radius": [0.7], "epsilon": [2.0], "steepness": [4.5], "c6": [0.2],
        "strength": [0.5], "decay": [0.3],
    }  # fmt: skip
    return [water, chain, lithium]


def molecular(tolerance: float = 1e-10) -> HybridPotential:
    """Every term of a molecular force field."""
    molecules = toy_molecules()
    pairs: dict[str, Any] = {"cutoff": 6.0, "switch_width": 1.0, "tail": True}
    terms: dict[str, Term] = {
        "charges": FixedCharges(molecules),
        "bonded": Bonded(molecules),
        "coulomb": Coulomb("ewald", 6.0, tolerance),
        "excluded": ExcludedCoulomb(molecules),
        "exp6": Exp6(molecules, **pairs),
        "transfer": ChargeTransfer(molecules, **pairs),
        "induction": InducedDipoles(molecules, cutoff=6.0, tolerance=tolerance),
    }
    return HybridPotential(terms).requires_grad_(False).eval()


def molecular_box(seed: int = 0) -> Atoms:
    """A triclinic box of the toy molecules, bent and stretched, some cut by its faces."""
    rng = np.random.default_rng(seed)
    shapes = {
        "water": ("OHH", [[0, 0, 0], [0.97, 0, 0], [-0.25, 0.94, 0]]),
        "chain": ("OCCOF", [[0, 0, 0], [1.35, 0.4, 0], [2.0, 1.7, 0.4], [1.5, 2.8, 0.9],
                            [3.3, 1.7, 0.7]]),
        "Li": ("Li", [[0, 0, 0]]),
    }  # fmt: skip
    box = Atoms(cell=[[11.4, 0, 0], [1.1, 10.8, 0], [-0.6, 0.7, 11.8]], pbc=True)
    names = ["chain", "water", "chain", "water", "Li", "water", "chain", "water"]
    corners = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    for index, (name, corner) in enumerate(zip(names, corners, strict=True)):
        symbols, positions = shapes[name]
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        places = (np.array(positions) - np.mean(positions, axis=0)) @ turn
        part = Atoms(symbols, places + corner @ np.asarray(box.cell))
        part.positions += rng.normal(scale=0.06, size=part.positions.shape)
        part.set_array("molecule", np.full(len(part), index))
        box += part
    box.info["charge"] = 1.0
    box.wrap()
    return box


VARIANTS = {
    "ewald": lambda: hybrid("ewald"),
    "pme": lambda: hybrid("pme", 1e-6),
    "qeq and d3": equilibrated,
}


def molecular_gas(seed: int = 0) -> Atoms:
    """The molecules of `molecular_box` without a cell, whole and apart."""
    box = molecular_box(seed)
    for k in np.unique(box.arrays["molecule"]):
        mine = np.flatnonzero(box.arrays["molecule"] == k)
        apart = box.get_distances(mine[0], mine, mic=True, vector=True)
        box.positions[mine] = box.positions[mine[0]] + apart
    box.pbc, box.cell = False, np.zeros((3, 3))
    return box


def mixed_systems(n: int, seed: int = 0) -> list[Atoms]:
    """Molecules, boxes, ions, single atoms, tiny cells; neutral and charged; in random order."""
    rng = np.random.default_rng(seed)
    names = ("H2O", "CH3OH", "HCN", "LiF", "CH3SH", "SO2", "PH3")
    out: list[Atoms] = []
    for k in range(n):
        charge = float(rng.integers(-1, 2))
        choice = k % 8
        if choice in (0, 1):
            atoms = molecule(names[rng.integers(len(names))])
            atoms.rattle(0.05, seed=k)
        elif choice == 2:
            atoms = ionic_box("Li4F4H2C2N2O2PS", charge=charge, seed=k)
        elif choice == 3:
            atoms = ionic_box("LiFOH", charge=charge, seed=k)  # smaller than every cutoff
        elif choice == 4:
            atoms = hexafluorophosphate()
        elif choice == 5:
            atoms = Atoms(ELEMENTS[k % len(ELEMENTS)], info={"charge": charge})
        elif choice == 6:
            atoms = cluster("Li2F2C3H3OSNP", charge=charge, seed=k)
        else:
            atoms = ionic_box(ELEMENTS[k % len(ELEMENTS)], spacing=2.8, seed=k)
        atoms.positions += rng.normal(scale=3.0, size=3)
        out.append(atoms)
    return [out[k] for k in rng.permutation(n)]
