"""Hydrogen-mass repartitioning: totals, molecules, and bonds across a boundary."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from hff_ase.dynamics.start.masses import bound_to, repartition
from hff_ase.errors import StructureError


def liquid(seed: int = 0) -> Atoms:
    """Ethanol, water, a methyl radical's lithium and PF6-like F, each its own molecule."""
    box = Atoms(cell=[14.0, 15.0, 16.0], pbc=True)
    parts = [molecule("CH3CH2OH"), molecule("H2O"), molecule("CH3CH2OH"), Atoms("Li")]
    ids = []
    for index, part in enumerate(parts):
        part.rotate(37 * index, "z")
        part.positions += np.array([3.0, 3.0, 3.0]) + 4.5 * np.array([index % 2, index // 2, 1])
        box += part
        ids += [index] * len(part)
    box.set_array("molecule", np.array(ids))
    return box


def test_totals_stay():
    box = liquid()
    before, masses = box.get_masses(), repartition(box, 3.0)
    assert masses.sum() == pytest.approx(before.sum(), abs=1e-10)
    for index in np.unique(box.arrays["molecule"]):
        inside = box.arrays["molecule"] == index
        assert masses[inside].sum() == pytest.approx(before[inside].sum(), abs=1e-12)
    assert np.all(masses[box.numbers == 1] == 3.0)
    gain = 3.0 - before[box.numbers == 1][0]
    ethanol = masses[:9]  # C, C, O first; methyl, methylene, hydroxyl
    heavy = {8: [15.999 - gain], 6: [12.011 - 3 * gain, 12.011 - 2 * gain]}
    for number, expected in heavy.items():
        assert sorted(ethanol[box.numbers[:9] == number]) == pytest.approx(expected)
    assert masses[-1] == before[-1]
    assert np.array_equal(box.get_masses(), before)  # the structure is left alone


@pytest.mark.parametrize("ids", [True, False])
def test_bonds_across_a_boundary(ids):
    """Wrapped wherever the box is cut, and in a skewed cell: the same masses."""
    box = liquid()
    if not ids:
        del box.arrays["molecule"]
    expected = repartition(box, 2.5)
    box.set_cell([[14.0, 0, 0], [4.0, 15.0, 0], [-3.0, 2.0, 16.0]])
    for shift in ([-4.2, -3.1, -7.4], [3.1, 8.0, 5.0]):
        moved = box.copy()
        moved.positions += shift
        moved.wrap()
        assert np.ptp(moved.positions - box.positions) > 5  # some went to the other side
        assert np.array_equal(repartition(moved, 2.5), expected)


def test_the_nearest_heavy_atom_of_its_molecule():
    pair = Atoms("OHO", [[0, 0, 0], [0, 0, 1.05], [0, 0, 2.05]])
    assert bound_to(pair, np.array([1])) == [2]
    pair.set_array("molecule", np.array([0, 0, 1]))
    assert bound_to(pair, np.array([1])) == [0]
    lithium = Atoms("LiHC", [[0, 0, -0.9], [0, 0, 0], [0, 0, 1.1]])
    assert bound_to(lithium, np.array([1])) == [2]


def test_isotopes():
    water = molecule("H2O")
    masses = water.get_masses()
    masses[1] = 3.5
    masses[2] = 2.014
    water.set_masses(masses)
    found = repartition(water, 3.0)
    assert found == pytest.approx([15.999 - (3.0 - 2.014), 3.5, 3.0])
    assert np.array_equal(repartition(water, 1.00784), masses)


def test_what_cannot_be():
    with pytest.raises(StructureError, match=r"bound to a heavy atom, got none for atom 0 \(H\)"):
        repartition(molecule("H2"), 3.0)
    with pytest.raises(StructureError, match=r"atom 0 \(C\) with 4 of them"):
        repartition(molecule("CH4"), 3.8)
    argon = Atoms("Ar2", [[0, 0, 0], [0, 0, 4]])
    assert np.array_equal(repartition(argon, 3.0), argon.get_masses())
