"""The toy molecules of `core_models` with parameters of multipolar force fields, of no meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from core_models import toy_molecules

from hff_ase.potential import HybridPotential
from hff_ase.terms import (
    BondNetwork,
    FixedMultipoles,
    MultipoleInduction,
    Multipoles,
    SlaterDispersion,
    SlaterPairs,
    UniformField,
)
from hff_ase.terms.term import Term

OF_ELEMENT = {  # exponent, five amplitudes, C6, C8, C10
    1: (4.4, (6.0, 3.0, 1.0, 0.8, 1.2), (1.2, 4.0, 9.0)),
    3: (4.9, (5.0, 0.0, 0.0, 2.0, 0.0), (0.02, 0.01, 0.004)),
    6: (3.6, (7.0, 3.5, 0.9, 1.1, 0.7), (9.0, 60.0, 190.0)),
    8: (3.9, (12.0, 8.0, 0.4, 2.4, 3.5), (11.0, 70.0, 210.0)),
    9: (3.7, (9.0, 6.0, 1.6, 2.0, 2.2), (7.0, 40.0, 110.0)),
}
MOMENTS = {  # dipole in e A; zz, xx - yy, xy, xz, yz in e A^2
    1: ((0.04, 0.02, 0.08), (0.05, 0.02, 0.01, 0.03, -0.02)),
    3: ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.0)),
    6: ((-0.06, 0.03, 0.11), (0.2, -0.1, 0.04, 0.06, 0.03)),
    8: ((0.09, -0.02, -0.15), (-0.3, 0.25, -0.05, 0.07, 0.02)),
    9: ((0.02, 0.01, 0.07), (0.1, -0.03, 0.02, -0.04, 0.01)),
}
FRAMES: dict[str, list[list[Any]]] = {
    "water": [
        *(["bisector", 0, 1, 2], ["bisector", 0, 2, 1]),
        *(["z_then_x", 1, 0, 2], ["z_then_x", 2, 0, 1]),
    ],
    "chain": [
        *(["axial", 0, 1], ["z_then_x", 1, 0, 2], ["axial", 3, 2]),
        *(["z_then_x", 2, 3, 4], ["bisector", 2, 4, 3], ["z_then_x", 4, 2, 3]),
    ],
    "Li": [],
}
AMPLITUDES = ("exchange", "penetration", "induction", "dispersion", "charge_transfer")


def multipolar_molecules(*, mirrored: bool = False) -> list[dict[str, Any]]:
    """Water, chain and Li; with ``mirrored`` their moments are those of mirror images too."""
    found = []
    for entry in toy_molecules():
        of_atoms = [OF_ELEMENT[z] for z in entry["numbers"]]
        own: dict[str, Any] = {"exponent": [row[0] for row in of_atoms]}
        for k, name in enumerate(AMPLITUDES):
            own[name] = [row[1][k] for row in of_atoms]
        for k, name in enumerate(("c6", "c8", "c10")):
            own[name] = [row[2][k] for row in of_atoms]
        own["dipole"] = [list(MOMENTS[z][0]) for z in entry["numbers"]]
        own["quadrupole"] = [list(MOMENTS[z][1]) for z in entry["numbers"]]
        own["frames"] = FRAMES[entry["name"]]
        for row in own["dipole"] if mirrored else []:
            row[1] = 0.0
        for row in own["quadrupole"] if mirrored else []:
            row[2] = row[4] = 0.0
        found.append({**entry, **own, "damped_charge": entry["charge"]})
    return found


def multipolar() -> HybridPotential:
    """Every term of a multipolar force field, in an electric field."""
    molecules, sums = multipolar_molecules(), {"cutoff": 6.0, "method": "ewald"}
    networks = [
        {**entry, "network": None if entry["name"] == "Li" else 0} for entry in toy_molecules()
    ]
    terms: dict[str, Term] = {
        "moments": FixedMultipoles(molecules),
        "multipoles": Multipoles(molecules, **sums),
        "induction": MultipoleInduction(molecules, "linear", **sums),
        "slater": SlaterPairs(molecules, cutoff=6.0),
        "dispersion": SlaterDispersion(molecules, method="ewald", cutoff=6.0),
        "bonded": BondNetwork(networks, [{"reach": 1, "valence": 4}]),
        "field": UniformField((0.01, -0.02, 0.03), {"Li": 1}),
    }
    return HybridPotential(terms).requires_grad_(False).eval()


def wet_lithium() -> Atoms:
    """Water and Li in a small triclinic box."""
    atoms = Atoms("OHHLi", [[0, 0, 0], [0.97, 0.1, 0], [-0.25, 0.94, 0.2], [1.9, 2.4, 2.9]])
    atoms.set_cell([[5.6, 0, 0], [0.7, 5.9, 0], [-0.6, 0.8, 5.3]])
    atoms.pbc = True
    atoms.set_array("molecule", np.array([0, 0, 0, 1]))
    atoms.info["charge"] = 1.0
    return atoms
