"""The topology next to an XTC file: molecules, bonds, formal charges and atom names, as PDB.

An atom is named after its element and the heavy atoms that it is bonded to, alphabetically, as far
as four columns allow: the carbonyl oxygen of a carbonate is ``OC``, its ether oxygens ``OCC``, the
carbon
between them ``COOO``, a hydrogen on carbon ``HC``, lithium ``LI``. Format: wwPDB, Atomic Coordinate
Entry Format 3.3, ATOM, CRYST1 and CONECT.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from hff_ase.errors import HFFError
from hff_ase.labels.molecules import bonds_of, formal_charge

RESIDUES = 10_000  # four columns; readers unroll numbers that start again
MOST_BONDED = 99_999  # five columns of CONECT: larger systems have names and residues, no bonds


def pdb_text(atoms: Atoms) -> str:
    """A structure as PDB: molecules as residues, counted from 1.

    Args:
        atoms: ``arrays["molecule"]`` and ``info["molecules"]`` (names) are used where they are.
    """
    n = len(atoms)
    molecule = atoms.arrays.get("molecule", np.zeros(n, dtype=int))
    given = atoms.info.get("molecules", ())
    known = len(given) > molecule.max(initial=-1)
    residues = [str(given[k])[:3] if known else "MOL" for k in molecule]
    partners = _partners(atoms)
    names = [atom_name(k, atoms, partners[k]) for k in range(n)]
    charges = _charges(atoms, molecule)
    lines = []
    if atoms.pbc.any():
        a, b, c, alpha, beta, gamma = atoms.cell.cellpar()
        lines.append(
            f"CRYST1{a:9.3f}{b:9.3f}{c:9.3f}{alpha:7.2f}{beta:7.2f}{gamma:7.2f} P 1           1"
        )
    for k in range(n):
        symbol = atoms.symbols[k]
        # an element of one letter begins in the second of the name's columns
        name = names[k].ljust(4) if len(symbol) == 2 or len(names[k]) == 4 else f" {names[k]:<3}"
        x, y, z = atoms.positions[k]
        residue = f"{residues[k]:<3}  {(molecule[k] + 1) % RESIDUES:4d}"
        lines.append(
            f"ATOM  {(k + 1) % 100_000:5d} {name} {residue}"
            f"    {_column(x)}{_column(y)}{_column(z)}  1.00  0.00          {symbol.upper():>2}"
            f"{charges[k]:>2}"
        )
    if n <= MOST_BONDED:
        for k, bound in enumerate(partners):
            for first in range(0, len(bound), 4):
                others = "".join(f"{other + 1:5d}" for other in bound[first : first + 4])
                lines.append(f"CONECT{k + 1:5d}{others}")
    return "\n".join([*lines, "END", ""])


def atom_name(index: int, atoms: Atoms, partners: Sequence[int]) -> str:
    """The name of an atom, at most four characters."""
    symbols = sorted(str(atoms.symbols[k]) for k in partners if atoms.numbers[k] != 1)
    return (str(atoms.symbols[index]) + "".join(symbols)).upper()[:4]


def _column(value: float) -> str:
    """A coordinate in eight columns; a longer one is cut (frames hold the exact value)."""
    return f"{value:8.3f}" if -999.9995 < value < 9999.9995 else f"{value:8.1f}"[:8]


def _partners(atoms: Atoms) -> list[list[int]]:
    """The atoms that each is bound to, within its molecule where these are known."""
    first, second = bonds_of(atoms)
    if "molecule" in atoms.arrays:
        own = atoms.arrays["molecule"]
        inside = own[first] == own[second]
        first, second = first[inside], second[inside]
    partners: list[list[int]] = [[] for _ in range(len(atoms))]
    for i, j in sorted(set(zip(first.tolist(), second.tolist(), strict=True))):
        if i != j:
            partners[i].append(j)
    return partners


def _charges(atoms: Atoms, molecule: np.ndarray) -> list[str]:
    """Formal charges such as ``1+``, on the first atom of each ion other than hydrogen."""
    texts = [""] * len(atoms)
    if "molecule" not in atoms.arrays:
        return texts
    order = np.argsort(molecule, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(molecule[order])) + 1):
        try:
            charge = formal_charge(atoms[members].get_chemical_formula("hill"))
        except HFFError:
            continue
        if charge:
            heavy = members[atoms.numbers[members] != 1]
            at = int(heavy[0] if len(heavy) else members[0])
            texts[at] = f"{abs(charge)}{'+' if charge > 0 else '-'}"
    return texts
