"""Bonds from distances, molecules through boundaries, and when two molecules are the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from hff_ase.dynamics.build import build_box, find_solvent, ions, solvents
from hff_ase.errors import StructureError
from hff_ase.molecule_graph import MoleculeGraph
from hff_ase.topology import from_bonds, perceive

LIBRARY = {**solvents(), **ions()}


def _graph(name: str) -> MoleculeGraph:
    return perceive(LIBRARY[name].atoms()).graph(0)


def _relabelled(graph: MoleculeGraph, seed: int) -> MoleculeGraph:
    order = np.random.default_rng(seed).permutation(len(graph.numbers))
    numbers = np.zeros(len(order), dtype=int)
    numbers[order] = graph.numbers
    bonds = sorted(tuple(sorted((int(order[i]), int(order[j])))) for i, j in graph.bonds)
    return MoleculeGraph(tuple(int(z) for z in numbers), tuple(bonds))


def _from_smiles(smiles: str) -> MoleculeGraph:
    chem = pytest.importorskip("rdkit.Chem", reason="RDKit is the optional extra 'smiles'")
    mol = chem.AddHs(chem.MolFromSmiles(smiles))
    return MoleculeGraph(
        tuple(atom.GetAtomicNum() for atom in mol.GetAtoms()),
        tuple((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()),
    )


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(LIBRARY)), st.integers(0, 2**32 - 1))
def test_identity_does_not_depend_on_the_order_of_atoms(name: str, seed: int) -> None:
    graph = _graph(name)
    other = _relabelled(graph, seed)
    assert other.key == graph.key
    assert other.is_same(graph)
    assert other.formula == graph.formula


@pytest.mark.parametrize(
    "isomers",
    [
        ("COC(=O)OC", "COCC(=O)O", "OCC(=O)OC", "CC(O)C(=O)O", "OCC(O)C=O"),  # C3H6O3
        ("CCOC(=O)OC", "COCC(=O)OC", "CCOCC(=O)O"),  # C4H8O3
        ("O=C1OCCO1", "C=COC(=O)O", "O=C1COCO1", "CC(=O)C(=O)O"),  # C3H4O3
        ("CCO", "COC"),
        ("O=C1CCCO1", "CC(=O)OC=C", "C=CC(=O)OC"),  # C4H6O2
        ("CCC#N", "CC[N+]#[C-]"),
        ("FC(F)C(F)(F)COC(F)(F)C(F)F", "FC(F)(F)CCOC(F)(F)C(F)(F)F"),  # of TTE
        ("C1CCC2CCCCC2C1", "C1CCC(C1)C1CCCC1"),  # refinement alone cannot tell these
    ],
)
def test_isomers_differ(isomers: tuple[str, ...]) -> None:
    graphs = [_from_smiles(smiles) for smiles in isomers]
    assert len({graph.formula for graph in graphs}) == 1
    for a, b in itertools.combinations(graphs, 2):
        assert not a.is_same(b)
        assert a.is_same(_relabelled(a, 1))


def test_refinement_alone_is_not_enough() -> None:
    """Decalin and bicyclopentyl have one key; the exact comparison tells them apart."""
    decalin, bicyclopentyl = _from_smiles("C1CCC2CCCCC2C1"), _from_smiles("C1CCC(C1)C1CCCC1")
    assert decalin.key == bicyclopentyl.key
    assert not decalin.is_same(bicyclopentyl)


@pytest.mark.parametrize("seed", range(3))
def test_molecules_of_a_box_whole_or_wrapped(seed: int) -> None:
    """Half of the molecules lie across the boundary; one image of an atom is as good as another."""
    box = build_box("1 M LiPF6 + 0.2 M Mg(TFSI)2 in EC:DMC 1:1 v/v + 5 wt% VC", 500, seed=seed)
    expected = box.arrays["molecule"].copy()
    names = box.info["molecules"]
    del box.arrays["molecule"]
    box.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ box.cell.array)  # the same lattice
    random = np.random.default_rng(seed)
    box.positions += random.integers(-2, 3, (len(box), 3)) @ box.cell.array
    order = random.permutation(len(box))
    found = perceive(box[order])
    assert found.n_molecules == len(names)
    for atoms in found.members:
        assert len(set(expected[order[atoms]])) == 1
    for kind in found.kinds():
        name = names[expected[order[found.members[int(kind.molecules[0])][0]]]]
        assert kind.count == names.count(name)
        assert kind.graph.is_same(_graph(name))


def test_packed_contacts_are_no_bonds() -> None:
    """packmol leaves atoms at 2 Angstrom; ids of molecules, where there are, always decide."""
    box = Atoms("CC", [[0, 0, 0], [0, 0, 1.6]])
    assert perceive(box).n_molecules == 1
    box.set_array("molecule", np.array([0, 1]))
    assert perceive(box).n_molecules == 2


@pytest.mark.parametrize("ion", ["Li", "Na", "Mg", "Zn"])
def test_bare_ions_bond_to_nothing(ion: str) -> None:
    water = molecule("H2O")
    atoms = water + Atoms(ion, [water.positions[0] + [0, 0, 1.8]])
    assert [kind.graph.formula for kind in perceive(atoms).kinds()] == ["H2O", ion]


def test_hydrogen_bonds_to_one_atom() -> None:
    """O-H...O with H at 1.0 and 1.15 Angstrom, as in a fast proton's compressed contact."""
    atoms = Atoms("OHO", [[0, 0, 0], [0, 0, 1.0], [0, 0, 2.15]])
    assert perceive(atoms).bonds.tolist() == [[0, 1]]


def test_sulfurs_of_an_imide_are_not_bonded() -> None:
    graph = _graph("FSI")
    sulfurs = [k for k, z in enumerate(graph.numbers) if z == 16]
    assert tuple(sulfurs) not in graph.bonds


@pytest.mark.parametrize("pbc", [True, False, (True, True, False), (False, False, True)])
def test_partly_periodic_structures(pbc: bool | tuple[bool, ...]) -> None:
    """Hydrogen fluoride across the upper face of the third axis."""
    atoms = Atoms("HF", [[1, 1, 0.3], [1, 1, 5.4]], cell=[6, 6, 6], pbc=pbc)
    bonded = pbc is True or (pbc is not False and pbc[2])  # type: ignore[index]
    topology = perceive(atoms)
    assert topology.n_molecules == (1 if bonded else 2)
    assert topology.shifts.tolist() == ([[0, 0, -1]] if bonded else [])


def test_a_crystal_is_bonded_to_its_images() -> None:
    """Diamond, two atoms: four bonds from each, three of them across the boundary."""
    topology = perceive(bulk("C", "diamond", 3.567))
    assert len(topology.bonds) == 4
    assert topology.n_molecules == 1


def test_box_with_an_atom_bonded_to_itself() -> None:
    topology = perceive(Atoms("C", cell=[1.5, 9, 9], pbc=True))
    assert topology.bonds.tolist() == [[0, 0]]


def test_known_bonds_make_the_same_topology() -> None:
    atoms = find_solvent("EC").atoms()
    found = perceive(atoms)
    assert from_bonds(atoms.numbers, found.bonds[::-1, ::-1]).graph(0).is_same(found.graph(0))


@pytest.mark.parametrize("atoms", [Atoms(), Atoms("Li"), Atoms("LiNa", [[0, 0, 0], [0, 0, 1]])])
def test_structures_without_bonds(atoms: Atoms) -> None:
    topology = perceive(atoms)
    assert topology.n_molecules == len(atoms)
    assert sum(kind.count for kind in topology.kinds()) == len(atoms)


def test_positions_that_are_none() -> None:
    with pytest.raises(StructureError, match="finite positions"):
        perceive(Atoms("H", [[np.nan, 0, 0]]))


def test_keys_are_those_that_files_hold() -> None:
    """A key is stored in model files: it may not change with the machine or the version."""
    expected = {"EC": "a282", "DMC": "d9d5", "EMC": "0701", "PF6": "aebb", "Li": "6dcc"}
    assert {name: _graph(name).key[:4] for name in expected} == expected
