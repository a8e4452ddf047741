"""AtomsBatch: from ase.Atoms to flat tensors, padding, and structures that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from core_models import mixed_systems

from hff_ase.arrays import ARRAYS, Declaration, declare
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.structures import total_charge
from hff_ase.testing import ionic_box


def test_flat_tensors_hold_the_structures_in_order() -> None:
    structures = mixed_systems(9)
    batch = AtomsBatch.from_atoms(structures)
    assert batch.n_systems == 9
    assert batch.n_atoms == sum(map(len, structures))
    assert batch.counts.tolist() == [len(s) for s in structures]
    assert batch.max_count == max(map(len, structures))
    for k, atoms in enumerate(structures):
        own = batch.system == k
        np.testing.assert_array_equal(batch.positions[own].numpy(), atoms.positions)
        np.testing.assert_array_equal(batch.numbers[own].numpy(), atoms.numbers)
        assert batch.index_in_system[own].tolist() == list(range(len(atoms)))
        assert bool(batch.periodic[k]) == atoms.pbc.all()
        assert float(batch.charge[k]) == atoms.info.get("charge", 0.0)
        expected = np.asarray(atoms.cell) if atoms.pbc.all() else np.eye(3)
        np.testing.assert_array_equal(batch.cell[k].numpy(), expected)
    assert batch.positions.dtype == batch.cell.dtype == batch.charge.dtype == torch.float64
    assert batch.any_periodic
    assert not batch.all_periodic


def test_a_batch_does_not_share_memory_with_the_structure() -> None:
    """An integrator moves atoms in place; what a list was built for must stay."""
    atoms = ionic_box()
    batch = AtomsBatch.from_atoms(atoms)
    before = batch.positions.clone()
    atoms.positions += 1.0
    atoms.cell[:] *= 2.0
    assert torch.equal(batch.positions, before)


def test_cell_of_a_molecule_is_ignored() -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[5, 5, 0], pbc=False)
    batch = AtomsBatch.from_atoms(atoms)
    assert torch.equal(batch.cell[0], torch.eye(3, dtype=torch.float64))
    assert float(batch.volume) == 1.0


def test_volume_is_that_of_the_cell() -> None:
    boxes = [ionic_box(seed=k, formula=f) for k, f in enumerate(("LiF", "Li3F3", "C8H8"))]
    volumes = AtomsBatch.from_atoms(boxes).volume.numpy()
    np.testing.assert_allclose(volumes, [box.get_volume() for box in boxes], rtol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_unpad_inverts_pad_and_padding_is_zero(n: int) -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(n, seed=n))
    values = torch.randn(batch.n_atoms, 2, dtype=torch.float64, requires_grad=True)
    padded = batch.pad(values)
    assert padded.shape == (n, batch.max_count, 2)
    assert torch.equal(batch.unpad(padded), values)
    torch.testing.assert_close(padded.sum(1), batch.system_sum(values))
    behind = torch.arange(batch.max_count) >= batch.counts[:, None]
    assert not padded[behind].any()
    (gradient,) = torch.autograd.grad(batch.unpad(padded).sum(), values)
    assert torch.equal(gradient, torch.ones_like(values))


def test_sums_over_systems_are_in_float64() -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(5))
    values = torch.full((batch.n_atoms,), 0.1, dtype=torch.float32)
    sums = batch.system_sum(values)
    assert sums.dtype == torch.float64
    torch.testing.assert_close(sums, batch.counts.double() * float(values[0]), rtol=1e-14, atol=0)


def test_moved_keeps_what_does_not_depend_on_places() -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(4))
    counts = batch.counts
    moved = batch.moved(batch.positions + 1.0)
    assert moved.counts is counts
    assert torch.equal(moved.cell, batch.cell)
    assert torch.equal(moved.positions, batch.positions + 1.0)
    larger = batch.moved(batch.positions, 2.0 * batch.cell)
    torch.testing.assert_close(larger.volume, 8.0 * batch.volume)


def test_atoms_in_another_order_and_back() -> None:
    structures = mixed_systems(4)
    for atoms in structures:
        atoms.arrays["molecule"] = np.arange(len(atoms))
    batch = AtomsBatch.from_atoms(structures)
    rng = np.random.default_rng(0)
    first = batch.first_atom.tolist()
    order = [f + rng.permutation(n) for f, n in zip(first, batch.counts.tolist(), strict=True)]
    other = batch.reordered(torch.from_numpy(np.concatenate(order)))
    assert not torch.equal(other.positions, batch.positions)
    assert other.molecule is not None
    assert batch.molecule is not None
    for given, moved in (
        (batch.positions, other.positions),
        (batch.numbers, other.numbers),
        (batch.molecule, other.molecule),
    ):
        assert torch.equal(other.as_given(moved), given)
    moved_on = other.moved(other.positions + 1.0)
    assert torch.equal(moved_on.as_given(moved_on.positions), batch.positions + 1.0)
    assert other.place(0) == batch.place(int(order[0][0]))
    assert batch.as_given(batch.positions) is batch.positions


def test_what_the_host_knows_is_not_asked_of_the_device() -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(5))
    names = ("counts", "max_count", "any_periodic", "all_periodic")
    for known in (batch, AtomsBatch.join([batch, batch]), batch.to("cpu")):
        assert set(names) <= vars(known.layout).keys()
        fresh = AtomsBatch.of(known.arrays)
        assert not set(names) & vars(fresh.layout).keys()
        for name in names:
            assert bool(torch.as_tensor(getattr(fresh, name) == getattr(known, name)).all())


def labelled(n: int) -> list[Atoms]:
    """Systems with molecules, whose labels have gaps."""
    structures = mixed_systems(n)
    for k, atoms in enumerate(structures):
        atoms.arrays["molecule"] = 7 * (np.arange(len(atoms)) // (k + 1)) + 3
    return structures


def with_everything(n: int) -> AtomsBatch:
    """A batch that has every array, one of its own included."""
    declare("tag", Declaration("bond", torch.float64, (2,)))
    declare("formal_charge", Declaration("molecule", torch.float64))
    batch = AtomsBatch.from_atoms(labelled(n))
    generator = torch.Generator().manual_seed(0)
    bonds = torch.stack([batch.first_atom, batch.first_atom + batch.counts - 1], 1)
    bonds = bonds.repeat_interleave(2, 0)
    return batch.replace(
        bonds=bonds,
        types=torch.randint(9, (batch.n_atoms,), generator=generator),
        masses=torch.rand(batch.n_atoms, generator=generator, dtype=torch.float64),
        tag=torch.rand(len(bonds), 2, generator=generator, dtype=torch.float64),
        formal_charge=torch.rand(batch.n_molecules, generator=generator, dtype=torch.float64),
    )


def same_batch(one: AtomsBatch, two: AtomsBatch) -> bool:
    if one.arrays.keys() != two.arrays.keys():
        return False
    return all(torch.equal(array, two.arrays[name]) for name, array in one.arrays.items())


def test_every_declared_array_is_taken_along() -> None:
    """Whatever is selected and joined again is what it was: no array is lost or renumbered."""
    batch = with_everything(5)
    assert batch.arrays.keys() >= ARRAYS.keys()
    assert ARRAYS.keys() >= batch.arrays.keys()
    alone = [batch.select(torch.tensor([k])) for k in range(batch.n_systems)]
    joined = AtomsBatch.join(alone)
    assert same_batch(joined, batch)
    assert joined.n_molecules == batch.n_molecules
    assert sum(part.n_molecules for part in alone) == batch.n_molecules
    assert same_batch(batch.select(torch.arange(5)), batch)
    assert same_batch(batch.to("cpu"), batch)


def test_selected_systems_are_those_systems() -> None:
    structures = labelled(6)
    batch = AtomsBatch.from_atoms(structures)
    chosen = [4, 0, 3]
    some = batch.select(torch.tensor(chosen))
    assert same_batch(some, AtomsBatch.from_atoms([structures[k] for k in chosen]))
    np.testing.assert_array_equal(
        batch.atoms_of(torch.tensor(chosen)),
        np.concatenate([np.flatnonzero(batch.system.numpy() == k) for k in chosen]),
    )


def test_bonds_follow_their_atoms() -> None:
    batch = with_everything(3)
    order = torch.cat([torch.nonzero(batch.system == k)[:, 0].flip(0) for k in range(3)])
    other = batch.reordered(order)
    assert batch.bonds is not None
    assert other.bonds is not None
    assert torch.equal(other.positions[other.bonds], batch.positions[batch.bonds])
    assert torch.equal(other.system[other.bonds], batch.system[batch.bonds])


def test_arrays_that_nobody_declared_are_refused() -> None:
    batch = AtomsBatch.from_atoms(ionic_box())
    with pytest.raises(ConfigError, match=r"one of the arrays.*'spin'"):
        batch.replace(spin=batch.numbers)
    with pytest.raises(ConfigError, match=r"new name.*'charge'"):
        declare("charge", Declaration("atom", torch.float64))


def test_masses_come_along_where_they_are_given() -> None:
    heavy = ionic_box("LiF")
    assert AtomsBatch.from_atoms(heavy).masses is None
    heavy.set_masses([7.0, 20.0])
    masses = AtomsBatch.from_atoms([heavy, heavy]).masses
    assert masses is not None
    assert masses.tolist() == [7.0, 20.0, 7.0, 20.0]


def test_molecules_are_taken_along_where_all_have_them() -> None:
    one, two = ionic_box("LiF"), ionic_box("Li2F2")
    one.arrays["molecule"] = np.array([0, 1])
    assert AtomsBatch.from_atoms([one, two]).molecule is None
    two.arrays["molecule"] = np.array([0, 0, 1, 1])
    molecule = AtomsBatch.from_atoms([one, two]).molecule
    assert molecule is not None
    assert molecule.tolist() == [0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("value", [0, 1, -2.0, np.float32(1.0), np.array(1.0), "1"])
def test_charges_that_are_numbers(value: object) -> None:
    atoms = Atoms("Li", info={"charge": value})
    assert total_charge(atoms) == float(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, "neutral", np.nan, np.inf, [1.0, 2.0], 1e3])
def test_charges_that_are_not(value: object) -> None:
    with pytest.raises(StructureError, match="charge"):
        AtomsBatch.from_atoms(Atoms("Li", info={"charge": value}))


def broken(**changes: object) -> Atoms:
    atoms = ionic_box("Li2F2")
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


def with_bad_position() -> Atoms:
    atoms = ionic_box("Li2F2")
    atoms.positions[2, 1] = np.nan
    return atoms


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        ([], "at least one structure"),
        (Atoms(), "at least one atom"),
        ("LiF", "ase.Atoms, got str"),
        (with_bad_position(), "finite positions.*atom 2"),
        (broken(pbc=(True, True, False)), "all three directions or in none"),
        (broken(cell=np.zeros((3, 3))), "cell with a volume"),
        (broken(cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]]), "cell with a volume"),
        (broken(cell=[[0, 4, 0], [4, 0, 0], [0, 0, 4]]), "right-handed"),
        (broken(cell=np.full((3, 3), np.nan)), "finite cell"),
    ],
)
def test_structures_that_are_refused(atoms: Atoms, message: str) -> None:
    with pytest.raises(StructureError, match=message) as caught:
        AtomsBatch.from_atoms(atoms)
    assert "\n" not in str(caught.value)


def test_the_message_names_the_structure_of_a_batch() -> None:
    with pytest.raises(StructureError, match=r"structure 1\)"):
        AtomsBatch.from_atoms([ionic_box(), with_bad_position()])
    with pytest.raises(StructureError, match="charge"):
        AtomsBatch.from_atoms([ionic_box(), Atoms("Li", info={"charge": "x"})])
