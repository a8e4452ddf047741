"""Rewrite the geometries in ``molecules.json`` from its SMILES (needs RDKit).

    python -m hff_ase.dynamics.build.make_library

Facts (names, densities, volumes, sources) are edited in the file by hand; this only fills
``geometry``, one line of symbol and position per atom, and ``vdw_volume`` in A^3 where the density
or the molar volume is null, to estimate it from. Ions that are regular polyhedra get their ideal
shape, everything else the geometry that ``smiles:...`` would get.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .from_smiles import embed
from .volumes import vdw_volume

TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)])
TRIANGLE = np.array([[1, 0, 0], [-0.5, np.sqrt(0.75), 0], [-0.5, -np.sqrt(0.75), 0]])

# centre, ligand, bond length in Angstrom (crystals), directions
POLYHEDRA: dict[str, tuple[str, str, float, np.ndarray]] = {
    "PF6": ("P", "F", 1.60, OCTAHEDRON),
    "AsF6": ("As", "F", 1.72, OCTAHEDRON),
    "SbF6": ("Sb", "F", 1.88, OCTAHEDRON),
    "BF4": ("B", "F", 1.40, TETRAHEDRON),
    "BH4": ("B", "H", 1.22, TETRAHEDRON),
    "NH4": ("N", "H", 1.03, TETRAHEDRON),
    "AlCl4": ("Al", "Cl", 2.13, TETRAHEDRON),
    "ClO4": ("Cl", "O", 1.45, TETRAHEDRON),
    "SO4": ("S", "O", 1.49, TETRAHEDRON),
    "PO4": ("P", "O", 1.54, TETRAHEDRON),
    "NO3": ("N", "O", 1.25, TRIANGLE),
    "CO3": ("C", "O", 1.29, TRIANGLE),
}


def geometry(name: str, smiles: str) -> tuple[list[str], float]:
    """One line 'symbol x y z' per atom, Angstrom, and the van der Waals volume in A^3."""
    from rdkit import Chem

    mol = Chem.MolFromSmiles(smiles)
    volume = 0.0
    if mol.GetNumAtoms() == 1 and Chem.AddHs(mol).GetNumAtoms() == 1:
        symbols: tuple[str, ...] = (mol.GetAtomWithIdx(0).GetSymbol(),)
        positions = np.zeros((1, 3))
    elif name in POLYHEDRA:
        centre, ligand, length, directions = POLYHEDRA[name]
        symbols = (centre,) + (ligand,) * len(directions)
        positions = np.concatenate([np.zeros((1, 3)), length * directions])
        volume = vdw_volume(symbols, positions)
    else:
        symbols, positions, volume = embed(mol)
    positions = np.round(positions, 4) + 0.0  # + 0.0 turns -0.0 into 0.0
    lines = [
        f"{symbol} {x:.4f} {y:.4f} {z:.4f}"
        for symbol, (x, y, z) in zip(symbols, positions, strict=True)
    ]
    return lines, volume


def main() -> None:
    """Read, fill and write the file next to this one."""
    path = Path(__file__).with_name("molecules.json")
    facts = json.loads(path.read_text(encoding="utf-8"))
    for kind, measured in (("solvents", "density"), ("ions", "molar_volume")):
        for name, entry in facts[kind].items():
            entry.pop("geometry", None)  # goes last
            lines, volume = geometry(name, entry["smiles"])
            if entry[measured] is None:
                entry["vdw_volume"] = round(volume, 1)
            entry["geometry"] = lines
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
