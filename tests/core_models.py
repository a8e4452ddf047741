"""Small potentials with random weights for the tests of the core, and structures for them."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from hff_ase.potential import HybridPotential
from hff_ase.terms.bamboo_dispersion import BambooDispersion
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.dispersion import D3Dispersion
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


VARIANTS = {
    "ewald": lambda: hybrid("ewald"),
    "pme": lambda: hybrid("pme", 1e-6),
    "qeq and d3": equilibrated,
}


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
