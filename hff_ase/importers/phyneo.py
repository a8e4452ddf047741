"""PhyNEO's published parameters: an XML force field in the form that DMFF reads.

Elements of the file (lengths in nm, energies in kJ/mol): ``AtomTypes``, ``Residues``,
``ADMPPmeForce`` (charges, moments and their axes, ``Polarize``), ``ADMPDispPmeForce`` (C6, C8,
C10), ``SlaterExForce``, ``SlaterSrEsForce``, ``SlaterSrPolForce``, ``SlaterSrDispForce``,
``SlaterDhfForce`` (A, B), ``QqTtDampingForce`` (Q, B) and ``SlaterDampingForce`` (B, C6, C8, C10).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ase.data import atomic_numbers

KCAL = 0.0433641042418  # eV
KJ = KCAL / 4.184
NM = 10.0  # Angstrom
COULOMB = 1389.35455846 * KJ  # k_e of the published code, eV Angstrom
AMPLITUDE = math.sqrt(KJ)
# Buckingham's traceless moments in e A^2 from the file's numbers in nm^2, a third of them
THETA = 3.0 * NM**2
# Name in a table of types -> ours, and its unit in ours
SITE = {
    "q": ("charge", 1.0),
    "pol": ("polarizability", NM**3),
    "B": ("exponent", 1.0 / NM),
    "Q_qqtt": ("damped_charge", 1.0),
    "C6": ("c6", KJ * NM**6),
    "C8": ("c8", KJ * NM**8),
    "C10": ("c10", KJ * NM**10),
    "A_ex": ("exchange", AMPLITUDE),
    "A_es": ("penetration", AMPLITUDE),
    "A_pol": ("induction", AMPLITUDE),
    "A_disp": ("dispersion", AMPLITUDE),
    "A_dhf": ("charge_transfer", AMPLITUDE),
}


def molecule_of(
    name: str,
    atoms: Sequence[tuple[str, str]],
    bonds: Sequence[Sequence[int]],
    types: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """A molecule with all its parameters in our units.

    Args:
        atoms: (symbol, type) of each.
        bonds: pairs of atoms.
        types: by type the numbers of `SITE`, ``dip`` [3], ``quad`` [6], ``kz`` and ``kx``.
    """
    entry: dict[str, Any] = {
        "name": name,
        "numbers": [atomic_numbers[symbol] for symbol, _ in atoms],
        "bonds": [[min(i, j), max(i, j)] for i, j in bonds],
    }
    of_atoms = [types[kind] for _, kind in atoms]
    for theirs, (ours, unit) in SITE.items():
        entry[ours] = [float(own[theirs]) * unit for own in of_atoms]
    return entry
