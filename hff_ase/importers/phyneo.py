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

import numpy as np
from ase.data import atomic_numbers

from hff_ase.errors import CheckpointError
from hff_ase.molecular.octahedra import LIGANDS
from hff_ase.molecular.templates import Template

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
    as_published: bool = False,
) -> dict[str, Any]:
    """A molecule with all its parameters in our units.

    Args:
        atoms: (symbol, type) of each.
        bonds: pairs of atoms.
        types: by type the numbers of `SITE`, ``dip`` [3], ``quad`` [6], ``kz`` and ``kx``.
        as_published: moments in the published frames, which are not those of a molecule alone; else
            energies do not change when everything is turned or mirrored, or atoms of one type are
            exchanged.

    Raises:
        CheckpointError: axes that fit no neighbour.
    """
    entry: dict[str, Any] = {
        "name": name,
        "numbers": [atomic_numbers[symbol] for symbol, _ in atoms],
        "bonds": [[min(i, j), max(i, j)] for i, j in bonds],
    }
    of_atoms = [types[kind] for _, kind in atoms]
    for theirs, (ours, unit) in SITE.items():
        entry[ours] = [float(own[theirs]) * unit for own in of_atoms]
    entry["dipole"] = [[float(d) * NM for d in own["dip"]] for own in of_atoms]
    entry["quadrupole"] = [_quadrupole(own["quad"]) for own in of_atoms]
    entry["frames"] = frames_of(entry, [kind for _, kind in atoms], types, as_published)
    if not as_published:
        entry = symmetrised(entry)
    return entry


def _quadrupole(values: Sequence[float]) -> list[float]:
    """zz, xx - yy, xy, xz, yz in e A^2 of qXX, qYY, qZZ, qXY, qXZ, qYZ."""
    xx, yy, zz, xy, xz, yz = (float(value) * THETA for value in values)
    return [zz, xx - yy, xy, xz, yz]


def symmetrised(entry: dict[str, Any]) -> dict[str, Any]:
    """A molecule whose moments do not tell an atom from its mirror image.

    Types are shared by atoms on either side of a plane (the hydrogens of CH2), and molecules are
    matched as graphs: what is odd across the plane of z and x has no sign that is right for both.
    """
    dipoles = [[x, 0.0, z] for x, _, z in entry["dipole"]]
    quadrupoles = [[zz, difference, 0.0, xz, 0.0] for zz, difference, _, xz, _ in
                   entry["quadrupole"]]  # fmt: skip
    return {**entry, "dipole": dipoles, "quadrupole": quadrupoles}


def frames_of(
    entry: Mapping[str, Any],
    kinds: Sequence[str],
    types: Mapping[str, Mapping[str, Any]],
    as_published: bool,
) -> list[list[Any]]:
    """Rows of `hff_ase.molecular.frames` for a molecule.

    z points to a bonded atom of type kz; x to another bonded atom of type kx or, without one, to an
    atom of that type bonded to the former. As published that is the first that fits; else each that
    fits has an equal share, but for two that lie opposite each other about an octahedral centre.

    Args:
        entry: ``numbers`` and ``bonds``.
        kinds: type of each atom.

    Raises:
        CheckpointError: no atom fits.
    """
    template = Template.of(entry)
    near = [np.flatnonzero(row == 1).tolist() for row in template.apart]
    rows: list[list[Any]] = []
    for atom, kind in enumerate(kinds):
        kz, kx = (str(types[kind][name] or "") for name in ("kz", "kx"))
        if not kz:
            rows += [["lab", atom]] if as_published else []
            continue
        axis = "bisector" if "-" in (kz[0], kx[:1]) else "z_then_x"
        kz, kx = kz.lstrip("-"), kx.lstrip("-")
        found: list[list[Any]] = []
        for z in (k for k in near[atom] if kinds[k] == kz):
            if not kx:
                found.append(["axial_and_lab" if as_published else "axial", atom, z])
                continue
            others = [k for k in near[atom] if kinds[k] == kx and k != z]
            beyond = [k for k in near[z] if kinds[k] == kx and k != atom]
            for x in others or beyond:
                if not _opposite(near[atom], z, x):
                    found.append([axis, atom, z, x])
        if not found:
            raise CheckpointError(
                f"expected neighbours of types {kz} and {kx or '-'} for the axes of atom {atom} "
                f"(type {kind}) of {template.name}, got types {[kinds[k] for k in near[atom]]}"
            )
        rows += found[:1] if as_published else found
    return rows


def _opposite(around: Sequence[int], first: int, second: int) -> bool:
    """Whether two ligands of a centre lie opposite each other, as templates list octahedra."""
    if len(around) != LIGANDS or second not in around:
        return False
    half = LIGANDS // 2
    return around.index(first) % half == around.index(second) % half
