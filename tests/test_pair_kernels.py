"""The fused pair sums against the torch reference, finite differences and brute force."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from core_models import C6, R0, mixed_systems
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.pair import MOST_KINDS, cpu
from hff_ase.kernels.pair.segments import segments_of
from hff_ase.kernels.pair.tables import tabulate
from hff_ase.neighborhood import Neighborhood
from hff_ase.neighbors import NeighborList
from hff_ase.pairs import PairRequest
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.terms.bamboo_dispersion import BambooDispersion
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.dispersion import D3Dispersion
from hff_ase.terms.repulsion import ZBL
from hff_ase.terms.term import Fields, Term

MANY = list(Atoms("HLiBeBCNOFNaMgSiPSClKFeBrICsAuU").symbols)
CUTOFF, CN_CUTOFF = 7.013, 6.017
ENERGY, FORCE = 1e-9, 2e-7  # largest deviations, relative to the largest value
ZERO = {"s8": 0.722, "rs6": 1.217}
BJ = {"s8": 0.7875, "a1": 0.4289, "a2": 4.4407}


class MovingCharges(Term):
    """Charges that depend on fractional coordinates: dE/dq then shows in forces and stress."""

    kind = "moving_charges"
    gives = ("charges",)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        inverse = torch.linalg.inv(batch.cell)[batch.system]
        scaled = torch.einsum("na,nab->nb", batch.positions, inverse)
        fixed = torch.cos(torch.arange(batch.n_atoms, dtype=torch.float64))
        fields["charges"] = fixed + 0.3 * torch.sin(2 * math.pi * scaled).sum(-1)
        return torch.zeros_like(fixed)


def d3(damping: str, switch_width: float) -> D3Dispersion:
    """D3 with small cutoffs."""
    parameters = {"bj": BJ, "zero": ZERO, "cso": {"a1": 0.86}}[damping]
    return D3Dispersion(None, damping, parameters, CUTOFF, CN_CUTOFF, switch_width)


def coulomb(**options: object) -> Coulomb:
    """A lattice sum that is exact to many digits."""
    return Coulomb("ewald", CUTOFF, 1e-8, **options)  # type: ignore[arg-type]


TERMS: dict[str, Callable[[], dict[str, Term]]] = {
    "Coulomb, damped": lambda: {"coulomb": coulomb(damping=(2.2, 18.7))},
    "Coulomb, bare": lambda: {"coulomb": coulomb()},
    "BAMBOO": lambda: {"d": BambooDispersion(C6, R0, cutoff=CUTOFF)},
    "BAMBOO, switched": lambda: {"d": BambooDispersion(C6, R0, cutoff=CUTOFF, switch_width=1.0)},
    "ZBL": lambda: {"zbl": ZBL(scale=1.0)},
    **{
        f"D3 {damping}, {width}": lambda d=damping, w=width: {"d": d3(d, w)}  # type: ignore[misc]
        for damping in ("bj", "zero", "cso")
        for width in (0.0, 2.0)
    },
    "Coulomb and BAMBOO": lambda: {
        "coulomb": coulomb(damping=(2.2, 18.7)),
        "d": BambooDispersion(C6, R0, cutoff=CUTOFF),
    },
    "D3 and Coulomb": lambda: {"d": d3("bj", 2.0), "coulomb": coulomb()},
}


def both(terms: dict[str, Term], batch: AtomsBatch, skin: float = 0.5) -> list[Evaluation]:
    """Reference and fast."""
    potential = HybridPotential({"charges": MovingCharges(), **terms}).eval()
    neighbors = potential.neighbor_list(skin)
    return [potential.use_kernels(k)(batch, neighbors) for k in ("reference", "auto")]


def derivatives(result: Evaluation) -> tuple[Tensor, Tensor]:
    """Forces and stress."""
    assert result.forces is not None
    assert result.stress is not None
    return result.forces, result.stress


def check(slow: Evaluation, fast: Evaluation) -> None:
    """Equal to the stated tolerances, term by term."""
    for name, expected in slow.energy_terms.items():
        scale = max(float(expected.abs().max()), 1e-3)
        assert torch.allclose(fast.energy_terms[name], expected, rtol=0, atol=ENERGY * scale), name
    for first, second in zip(derivatives(slow), derivatives(fast), strict=True):
        assert float((first - second).abs().max()) <= FORCE * float(first.abs().max())
    scale = float(slow.energies.abs().max())
    assert float((slow.energies - fast.energies).abs().max()) <= ENERGY * scale


@pytest.mark.parametrize("name", list(TERMS))
def test_equals_the_reference_for_mixed_batches(name: str) -> None:
    """Molecules, ions, boxes smaller than the cutoff, single atoms; neutral and charged."""
    batch = AtomsBatch.from_atoms(mixed_systems(24))
    check(*both(TERMS[name](), batch))


@pytest.mark.parametrize("name", ["D3 bj, 0.0", "D3 zero, 2.0", "D3 cso, 2.0", "ZBL"])
def test_equals_the_reference_for_many_elements(name: str) -> None:
    rng = np.random.default_rng(1)
    cell = 9.0 * np.array([[1, 0, 0], [0.3, 1, 0], [-0.2, 0.35, 0.9]])
    box = Atoms(MANY * 2, rng.random((2 * len(MANY), 3)) @ cell, cell=cell, pbc=True)
    check(*both(TERMS[name](), AtomsBatch.from_atoms(box)))


def test_zbl_equals_the_reference_where_it_ends() -> None:
    """Its switch is short and its third derivative jumps by thousands of eV/A^3 there."""
    end = 0.76 + 0.31  # C-H
    structures = [
        Atoms("CH", [[0, 0, 0], [0, 0, fraction * end]])
        for fraction in (0.4999, 0.5001, 0.505, 0.99, 0.9985, 0.9999, 1.0001)
    ]
    slow, fast = both({"zbl": ZBL(scale=1.0)}, AtomsBatch.from_atoms(structures))
    difference = derivatives(slow)[0] - derivatives(fast)[0]
    assert torch.allclose(slow.energy, fast.energy, rtol=1e-9, atol=1e-9)
    assert float(difference[:, 2].abs().max()) < 1e-6
    assert float(difference[-8:].abs().max()) < 1e-9


def test_one_periodic_atom_has_only_its_images() -> None:
    batch = AtomsBatch.from_atoms(bulk("Li", "bcc", a=3.4))
    slow, fast = both(TERMS["Coulomb and BAMBOO"](), batch)
    assert torch.allclose(slow.energy, fast.energy, rtol=1e-9, atol=0)
    for first, second in zip(derivatives(slow), derivatives(fast), strict=True):
        assert torch.allclose(first, second, rtol=1e-6, atol=1e-12)


def test_a_batch_of_more_elements_than_tables_are_made_for() -> None:
    structures = [Atoms([z, 6], [[0, 0, 0], [0, 0, 2.0]]) for z in range(1, MOST_KINDS + 3)]
    for term in (d3("bj", 2.0), ZBL()):
        slow, fast = both({"d": term}, AtomsBatch.from_atoms(structures))
        assert torch.equal(slow.energy, fast.energy)


def joint(batch: AtomsBatch, terms: dict[str, Term], told: bool) -> tuple[Tensor, ...]:
    """Energies per term, dE/dx and dE/dcell of their sum, with terms told of each other or not."""
    potential = HybridPotential(terms).eval()
    neighbors = potential.neighbor_list(0.5)
    neighbors.update(batch)
    leaves = [batch.positions.clone().requires_grad_(), batch.cell.clone().requires_grad_()]
    neighborhood = neighbors.bind(batch.moved(*leaves), kernels="numba")
    if told:
        neighborhood.terms = tuple(terms.values())
    fields: Fields = {}
    energies = [term(batch.moved(*leaves), neighborhood, fields) for term in terms.values()]
    total = torch.stack(energies)
    return (total.detach(), *torch.autograd.grad(total.sum(), leaves))


@pytest.mark.parametrize("name", ["BAMBOO", "D3 bj, 2.0"])
def test_terms_that_share_a_pass_give_what_they_give_alone(name: str) -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(16))
    dispersion = TERMS[name]()
    for terms in (
        {"q": MovingCharges(), "c": coulomb(), **dispersion},
        {**dispersion, "q": MovingCharges(), "c": coulomb()},
    ):
        for alone, together in zip(
            joint(batch, terms, False), joint(batch, terms, True), strict=True
        ):
            assert torch.allclose(alone, together, rtol=1e-11, atol=1e-11)


class Looks(Term):
    """No energy; sees which later terms an earlier one has computed along."""

    kind = "looks"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.nn.Module] = []

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        self.seen = list(neighbors.computed_ahead)
        return batch.positions.new_zeros(batch.n_atoms)


@pytest.mark.parametrize("told", [True, False])
def test_a_later_term_is_computed_along_where_it_is_known(told: bool) -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(8))
    both = TERMS["Coulomb and BAMBOO"]()
    (first, sums), (second, later) = both.items()
    looks = Looks()
    joint(batch, {"q": MovingCharges(), first: sums, "looks": looks, second: later}, told)
    assert looks.seen == ([later] if told else [])


@pytest.mark.parametrize("name", ["D3 and Coulomb", "D3 zero, 2.0", "ZBL"])
def test_forces_and_stress_are_derivatives_of_the_fast_energy(name: str) -> None:
    atoms = next(a for a in mixed_systems(8) if a.pbc.any() and len(a) > 8)
    potential = HybridPotential({"charges": MovingCharges(), **TERMS[name]()}).eval()
    forces, stress = derivatives(potential(AtomsBatch.from_atoms(atoms)))

    def energy(strain: np.ndarray, atom: int, step: np.ndarray) -> float:
        moved = atoms.copy()
        moved.positions[atom] += step
        moved.set_cell(np.array(moved.cell) @ (np.eye(3) + strain), scale_atoms=True)
        batch = AtomsBatch.from_atoms(moved)
        return float(potential(batch, forces=False, stress=False).energy)

    h, still = 1e-4, np.zeros((3, 3))
    for atom in range(0, len(atoms), 4):
        step = h * np.eye(3)[atom % 3]
        slope = (energy(still, atom, step) - energy(still, atom, -step)) / (2 * h)
        assert float(forces[atom, atom % 3]) == pytest.approx(-slope, rel=2e-6, abs=2e-6)
    for a, b in ((0, 0), (1, 2)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5 * h
        strain[b, a] += 0.5 * h
        slope = energy(strain, 0, still[0]) - energy(-strain, 0, still[0])
        slope /= 2 * h * atoms.get_volume()
        assert float(stress[0, a, b]) == pytest.approx(slope, rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("name", ["Coulomb and BAMBOO", "D3 bj, 0.0"])
def test_pairs_within_the_skin_count_nothing(name: str) -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(16))
    potential = HybridPotential({"charges": MovingCharges(), **TERMS[name]()}).eval()
    exact = potential(batch, potential.neighbor_list(0.0))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(batch.positions.shape, generator=generator, dtype=torch.float64) - 0.5
    skinny = potential.neighbor_list(2.0)
    skinny.update(batch.moved(batch.positions + 0.5 * noise))
    listed = potential(batch, skinny)
    assert skinny.n_builds == 1
    assert torch.allclose(exact.energy, listed.energy, rtol=1e-12, atol=1e-12)
    for first, second in zip(derivatives(exact), derivatives(listed), strict=True):
        assert torch.allclose(first, second, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["Coulomb and BAMBOO", "D3 bj, 2.0"])
def test_threads_change_nothing_but_rounding(name: str) -> None:
    boxes = [a.repeat((4, 4, 3)) for a in mixed_systems(16) if a.pbc.any() and len(a) > 8]
    batch = AtomsBatch.from_atoms(boxes)
    potential = HybridPotential({"charges": MovingCharges(), **TERMS[name]()}).eval()
    neighbors = potential.neighbor_list()
    neighbors.update(batch)
    n_pairs = max(len(neighbors.rows(request).j) for request in neighbors.requests)
    assert n_pairs > 3 * cpu.PAIRS_PER_THREAD
    one, before = potential(batch), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        three, again = potential(batch), potential(batch)
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(one.energy, three.energy, rtol=1e-13, atol=1e-13)
    for first, second in zip(derivatives(one), derivatives(three), strict=True):
        assert torch.allclose(first, second, rtol=1e-9, atol=1e-11)
    assert torch.equal(derivatives(three)[0], derivatives(again)[0])


def test_segments_hold_every_pair_once() -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(12))
    neighbors = NeighborList([PairRequest(8.0, "half")])
    neighbors.update(batch)
    rows = neighbors.rows(PairRequest(8.0, "half"))
    listed = [
        (i, int(rows.j[k]), *rows.shift[k].tolist())
        for i in range(batch.n_atoms)
        for k in range(int(rows.start[i]), int(rows.start[i] + rows.count[i]))
    ]
    segments = segments_of(rows)
    found, longest = [], 0
    for s, atom in enumerate(segments.atom):
        partners = segments.partner[segments.first[s] : segments.first[s + 1]]
        shift = segments.shift[s].astype(int).tolist()
        found += [(int(atom), int(j), *shift) for j in partners]
        longest = max(longest, len(partners))
    assert sorted(found) == sorted(listed)
    assert longest == segments.longest
    assert segments_of(rows) is segments


def test_tables_follow_their_function_and_its_slope() -> None:
    """At every distance from 0.01 A on, knots or not; below, finite and still repulsive."""
    table = tabulate(lambda r: 1.0 / r, 12.0).coefficients[0].numpy()
    charges, out = np.array([1.0, 1.0]), np.zeros((2, 8))
    for r in np.geomspace(0.01, 11.9, 400):
        out[:] = 0.0
        value = potential_of_two(r, table, charges, out)
        slope = out[1, 0]
        assert value == pytest.approx(1.0 / r, rel=1e-9)
        assert slope == pytest.approx(-1.0 / r**2, rel=1e-7)
    close = [potential_of_two(r, table, charges, out * 0.0) for r in (0.0, 1e-4, 0.005)]
    assert 100.0 < close[2] < close[1] <= close[0] < 1000.0


def potential_of_two(r: float, table: np.ndarray, charges: np.ndarray, out: np.ndarray) -> float:
    """The kernel's sum for two atoms at a distance."""
    x = np.array([[0.0, 0, 0], [r, 0, 0]])
    system, first = np.zeros(2, np.int64), np.array([0, 1])
    where = (np.zeros(1, np.int64), first, np.zeros((1, 3)), np.array([1], np.uint32), 1)
    d_cell = np.zeros((1, 3, 3))
    what = (charges, table, None, None, None, None, None, out, d_cell)
    cpu.loops.pair_sums(0, 1, x, np.eye(3)[None], system, *where, 144.0, *what)
    return float(out[0, 3])


def test_an_atom_at_nan_shows() -> None:
    batch = AtomsBatch.from_atoms(Atoms("CO", [[0, 0, 0], [0, 0, 1.2]]))
    potential = HybridPotential({"charges": MovingCharges(), **TERMS["Coulomb and BAMBOO"]()})
    neighbors = potential.neighbor_list(1.0)
    neighbors.update(batch)
    kernels = neighbors.bind(batch.moved(batch.positions * torch.nan), kernels="numba")
    fields = {"charges": torch.ones(2, dtype=torch.float64)}
    for name in ("coulomb", "d"):
        energy = potential.terms[name](batch.moved(batch.positions * torch.nan), kernels, fields)
        assert bool(torch.isnan(energy).all())


def test_tables_follow_changed_parameters() -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(8))
    term = BambooDispersion(C6, R0, cutoff=CUTOFF)
    before = both({"d": term}, batch)[1]
    term.s6 = 0.5
    with torch.no_grad():
        term.c6.mul_(1.21)
    slow, fast = both({"d": term}, batch)
    check(slow, fast)
    assert not torch.allclose(fast.energy, before.energy)


def test_energies_alone_inside_inference_mode() -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(8))
    for name in ("Coulomb, damped", "BAMBOO", "D3 bj, 2.0", "ZBL"):
        potential = HybridPotential({"charges": MovingCharges(), **TERMS[name]()}).eval()
        with torch.inference_mode():
            energy = potential(batch, forces=False, stress=False).energy
        expected = potential(batch).energy
        assert torch.allclose(energy, expected, rtol=1e-12, atol=1e-12), name
