"""BAMBOO's dispersion: the published values, a separate numpy sum, derivatives, the bare cut."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list
from conftest import NO_DATA, SHARED_DATA

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest, Pairs
from hff_ase.potential import HybridPotential
from hff_ase.terms.bamboo_dispersion import BambooDispersion
from hff_ase.units import KCAL_PER_MOL

DATA = SHARED_DATA / "bamboo"
BOXES = ["DMC", "EC", "LiPF6_EC_DMC", "LiFSI_DMC_hi", "EtOH", "DMC_triclinic", "EC_tiny_cell"]
C6 = {"H": 3.0, "Li": 270.0, "C": 19.1, "O": 7.6}
R0 = {"H": 2.18, "Li": 3.50, "C": 2.91, "O": 2.48}


def dense_box(n_atoms: int = 14, length: float = 5.0, seed: int = 3) -> Atoms:
    """A triclinic box smaller than the cutoff."""
    rng = np.random.default_rng(seed)
    cell = np.array([[length, 0, 0], [0.3 * length, length, 0], [-0.2, 0.4, 0.9 * length]])
    symbols = rng.choice(list(C6), n_atoms)
    return Atoms(symbols, rng.random((n_atoms, 3)) @ cell, cell=cell, pbc=True)


def numpy_energy(atoms: Atoms, cutoff: float) -> float:
    """The published formula, image by image, ordered pairs halved."""
    c6 = np.array([C6[s] for s in atoms.symbols])
    r0 = np.array([R0[s] for s in atoms.symbols])
    c6, r0 = np.sqrt(c6[:, None] * c6), (r0[:, None] + r0) / 2
    reach = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(atoms.cell), axis=0)) + 1
    total = 0.0
    for image in np.ndindex(*(2 * int(n) + 1 for n in reach)):
        shift = (np.array(image) - reach) @ np.array(atoms.cell)
        r = np.linalg.norm(atoms.positions[None] + shift - atoms.positions[:, None], axis=-1)
        pairs = (r < cutoff) & (r > 0)
        r = np.where(pairs, r, 1.0)
        scale = 0.85 + 0.82 / (1 + np.exp(r - 2.5 * r0))
        total += 0.5 * (pairs * (-c6 / (r**6 + 4.5**6) * scale + c6 / cutoff**6)).sum()
    return float(total)


@pytest.mark.parametrize("kernels", ["reference", "auto"])
@pytest.mark.parametrize("name", BOXES)
def test_matches_the_published_model(name: str, kernels: str) -> None:
    if not (DATA / "reference.npz").exists():
        pytest.skip(NO_DATA)
    reference, weights = np.load(DATA / "reference.npz"), np.load(DATA / "weights.npz")
    elements = ["H", "Li", "C", "N", "O", "F", "P", "S"]
    rows = [atomic_numbers[symbol] for symbol in elements]
    c6 = weights["c6_emb.weight"][rows, 0].astype(float) * KCAL_PER_MOL
    r0 = weights["r0_emb.weight"][rows, 0].astype(float)
    term = BambooDispersion(
        dict(zip(elements, c6.tolist(), strict=True)), dict(zip(elements, r0.tolist(), strict=True))
    )
    atoms = Atoms(
        reference[f"{name}/numbers"],
        reference[f"{name}/positions"],
        cell=reference[f"{name}/cell"],
        pbc=True,
    )
    potential = HybridPotential({"d": term}).use_kernels(kernels)
    energy = potential(AtomsBatch.from_atoms(atoms), forces=False, stress=False)
    expected = float(reference[f"{name}/e_dispersion"]) * KCAL_PER_MOL
    assert float(energy.energy) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("kernels", "tolerance"), [("reference", 1e-12), ("auto", 1e-9)])
def test_matches_a_separate_sum(kernels: str, tolerance: float) -> None:
    atoms = dense_box()
    potential = HybridPotential({"d": BambooDispersion(C6, R0, cutoff=7.3)}).use_kernels(kernels)
    energy = float(potential(AtomsBatch.from_atoms(atoms)).energy)
    assert energy == pytest.approx(numpy_energy(atoms, 7.3), rel=tolerance)


def quiet_cutoff(atoms: Atoms) -> float:
    """A cutoff in the widest gap between pair distances: a bare cut has no derivative at a pair."""
    near = neighbor_list("d", atoms, 7.5)
    distances = np.sort(near[near > 7.0])
    gap = int(np.argmax(np.diff(distances)))
    return float(distances[gap : gap + 2].mean())


@pytest.mark.parametrize("kernels", ["reference", "auto"])
@pytest.mark.parametrize("switch_width", [0.0, 1.5])
def test_forces_and_stress_are_derivatives(kernels: str, switch_width: float) -> None:
    atoms = dense_box()
    cutoff = 7.0 if switch_width else quiet_cutoff(atoms)
    term = BambooDispersion(C6, R0, cutoff=cutoff, switch_width=switch_width)
    potential = HybridPotential({"d": term})
    potential.use_kernels(kernels)

    def energy(changed: Atoms) -> float:
        batch = AtomsBatch.from_atoms(changed)
        return float(potential(batch, forces=False, stress=False).energy)

    result = potential(AtomsBatch.from_atoms(atoms))
    step = 1e-5
    for atom, axis in ((0, 0), (5, 1), (9, 2)):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            ends.append(energy(moved))
        assert float(result.forces[atom, axis]) == pytest.approx(
            -(ends[0] - ends[1]) / (2 * step), abs=1e-6
        )
    for a, b in ((0, 0), (1, 2)):
        ends = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += 0.5 * sign * step
            strain[b, a] += 0.5 * sign * step
            moved = atoms.copy()
            moved.set_cell(np.array(atoms.cell) @ strain, scale_atoms=True)
            ends.append(energy(moved))
        slope = (ends[0] - ends[1]) / (2 * step) / atoms.get_volume()
        assert float(result.stress[0, a, b]) == pytest.approx(slope, abs=1e-6)


def test_a_switch_changes_nothing_before_it_but_the_shift_and_ends_smoothly() -> None:
    sharp = HybridPotential({"d": BambooDispersion(C6, R0, cutoff=7.0)})
    smooth = HybridPotential({"d": BambooDispersion(C6, R0, cutoff=7.0, switch_width=1.0)})

    def of(potential: HybridPotential, distance: float) -> tuple[float, float]:
        result = potential(AtomsBatch.from_atoms(Atoms("LiC", [[0, 0, 0], [distance, 0, 0]])))
        return float(result.energy), float(result.forces[1, 0])

    shift = np.sqrt(C6["Li"] * C6["C"]) * 7.0**-6
    for distance in (3.0, 5.9):
        (before, force), (after, same) = of(sharp, distance), of(smooth, distance)
        assert after == pytest.approx(before - shift, abs=1e-12)
        assert same == pytest.approx(force, abs=1e-12)
    energy, force = of(smooth, 7.0 - 1e-3)
    assert abs(energy) < 1e-6 * shift
    assert abs(force) < 1e-4 * abs(of(sharp, 6.999)[1])


def test_the_note_of_the_bare_cut_is_that_of_a_bare_cut() -> None:
    sharp, smooth = (BambooDispersion(C6, R0, switch_width=width) for width in (0.0, 1.0))
    assert "bare cut" in sharp.note_for(sharp.config())
    assert not smooth.note_for(smooth.config())


class Untrimmed(Neighborhood):
    """One listed pair at a given distance, whatever the cutoff (as in a padded list)."""

    kernels = None

    def __init__(self, distance: float) -> None:
        vector = torch.tensor([[distance, 0.0, 0.0]], dtype=torch.float64)
        index = torch.tensor([0]), torch.tensor([1])
        self.listed = Pairs(*index, vector, vector.norm(dim=1).requires_grad_())

    def pairs(self, request: PairRequest) -> Pairs:
        return self.listed


def test_pairs_beyond_the_cutoff_count_nothing_even_when_listed() -> None:
    term = BambooDispersion(C6, R0, cutoff=6.0)
    batch = AtomsBatch.from_atoms(Atoms("LiC", [[0, 0, 0], [6, 0, 0]]))
    for distance, within in ((5.999, True), (6.001, False), (9.0, False)):
        neighbors = Untrimmed(distance)
        energy = term(batch, neighbors, {}).sum()
        (slope,) = torch.autograd.grad(energy, neighbors.listed.distance)
        assert (abs(energy.item()) > 1e-6) == within
        assert (abs(slope.item()) > 1e-6) == within


def test_config_round_trip() -> None:
    term = BambooDispersion(C6, dict(reversed(R0.items())), a4=4.0, cutoff=7.0)
    config = json.loads(json.dumps(term.config()))
    again = BambooDispersion(**config)
    assert again.config() == term.config()
    batch = AtomsBatch.from_atoms(dense_box())
    first, second = (HybridPotential({"d": t})(batch).energy for t in (term, again))
    assert torch.equal(first, second)


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="same elements"):
        BambooDispersion(C6, {"H": 2.0})
    with pytest.raises(ConfigError, match="c6 of at least 0 for H"):
        BambooDispersion({"H": -1.0}, {"H": 2.0})
    with pytest.raises(ConfigError, match="positive cutoff"):
        BambooDispersion(C6, R0, cutoff=0.0)
    with pytest.raises(ConfigError, match="switch_width < cutoff"):
        BambooDispersion(C6, R0, cutoff=5.0, switch_width=6.0)
    potential = HybridPotential({"d": BambooDispersion(C6, R0)})
    with pytest.raises(StructureError, match=r"got Na \(atom 1\)"):
        potential(AtomsBatch.from_atoms(Atoms("HNa", [[0, 0, 0], [0, 0, 2]])))
