"""Write the geometries in ``molecules.json`` anew from its SMILES (needs RDKit).

    python -m hff_ase.dynamics.build.make_library

Facts (names, densities, volumes, sources) are edited in the file by hand; this only fills
``geometry``, one line of symbol and position per atom. Ions that are regular polyhedra get their
ideal shape, everything else the geometry that ``smiles:...`` would get.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .from_smiles import embed

TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)])

# centre, ligand, bond length in Angstrom, directions
POLYHEDRA: dict[str, tuple[str, str, float, np.ndarray]] = {
    "PF6": ("P", "F", 1.60, OCTAHEDRON),
    "BF4": ("B", "F", 1.40, TETRAHEDRON),
    "ClO4": ("Cl", "O", 1.45, TETRAHEDRON),
}
MONATOMIC = ("Li", "Na", "K")


def geometry(name: str, smiles: str) -> list[str]:
    """One line 'symbol x y z' per atom, Angstrom."""
    from rdkit import Chem

    if name in MONATOMIC:
        symbols: tuple[str, ...] = (name,)
        positions = np.zeros((1, 3))
    elif name in POLYHEDRA:
        centre, ligand, length, directions = POLYHEDRA[name]
        symbols = (centre,) + (ligand,) * len(directions)
        positions = np.concatenate([np.zeros((1, 3)), length * directions])
    else:
        symbols, positions, _ = embed(Chem.MolFromSmiles(smiles))
    positions = np.round(positions, 4) + 0.0  # + 0.0 turns -0.0 into 0.0
    return [
        f"{symbol} {x:.4f} {y:.4f} {z:.4f}"
        for symbol, (x, y, z) in zip(symbols, positions, strict=True)
    ]


def main() -> None:
    """Read, fill and write the file beside this one."""
    path = Path(__file__).with_name("molecules.json")
    facts = json.loads(path.read_text(encoding="utf-8"))
    for entries in facts.values():
        for name, entry in entries.items():
            entry["geometry"] = geometry(name, entry["smiles"])
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
