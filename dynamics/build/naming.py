"""What a molecule is called, by its graph."""

from __future__ import annotations

from functools import cache

from hff_ase.molecule_graph import MoleculeGraph
from hff_ase.topology import perceive

from .library import Molecule, ions, solvents


def graph_of(molecule: Molecule) -> MoleculeGraph:
    """The graph of a molecule of the library, or of one from SMILES or a file."""
    return perceive(molecule.atoms()).graph(0)


def name_of(graph: MoleculeGraph) -> str | None:
    """The library's name of a molecule or ion; None where it has none."""
    return next((name for name, known in _named().get(graph.key, []) if known.is_same(graph)), None)


@cache
def _named() -> dict[str, list[tuple[str, MoleculeGraph]]]:
    found: dict[str, list[tuple[str, MoleculeGraph]]] = {}
    for molecule in (*solvents().values(), *ions().values()):
        graph = graph_of(molecule)
        found.setdefault(graph.key, []).append((molecule.name, graph))
    return found
