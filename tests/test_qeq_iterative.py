"""Charge equilibration by conjugate gradients against the dense solver and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.special import erf

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.build import build_box
from hff_ase.errors import ConfigError, StructureError
from hff_ase.evaluator import Evaluator
from hff_ase.kernels.qeq.table import END, KNOTS, boys_table
from hff_ase.longrange import parts
from hff_ase.longrange.ewald import ReciprocalEwald
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.longrange.qeq.preconditioner import charge_inverse
from hff_ase.memory import History, predictor
from hff_ase.neighborhood import Neighborhood
from hff_ase.neighbors import NeighborList
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.terms.qeq import QEq
from hff_ase.terms.qeq_parameters import rappe_goddard
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT

ELEMENTS = ("H", "Li", "C", "O", "F", "P")
KERNELS = pytest.mark.parametrize("kernels", ["auto", "reference"])


class DipoleLike(Term):
    """sum_i q_i^2 x_i: a later term that uses the charges."""

    kind = "dipole_like"
    needs = ("charges",)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> torch.Tensor:
        return fields["charges"].square() * batch.positions[:, 0]


def term(
    solver: str = "iterative",
    exact: bool = False,
    mesh_tolerance: float | None = None,
    **options: object,
) -> QEq:
    """With ``exact`` the iterative solver sums over wave vectors, as the dense one does."""
    tables = rappe_goddard(ELEMENTS)
    tables["width"] = {symbol: min(width, 0.8) for symbol, width in tables["width"].items()}
    qeq = QEq(**tables, solver=solver, **options)  # type: ignore[arg-type]
    if exact:
        qeq.mesh = ReciprocalEwald(qeq.alpha, qeq.tolerance)
    if mesh_tolerance is not None:
        qeq.mesh = ReciprocalPME(qeq.alpha, mesh_tolerance)
    return qeq


def potential_of(qeq: QEq, kernels: str = "auto", later: bool = False) -> HybridPotential:
    terms: dict[str, Term] = {"qeq": qeq}
    if later:
        terms["later"] = DipoleLike()
    return HybridPotential(terms).eval().requires_grad_(False).use_kernels(kernels)


@pytest.fixture(scope="module")
def box() -> Atoms:
    """An electrolyte in a triclinic cell."""
    atoms = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 120, seed=2)
    length = atoms.cell.lengths()[0]
    shear = np.array([[1.0, 0.0, 0.0], [0.12, 1.02, 0.0], [-0.1, 0.08, 0.99]])
    atoms.set_cell(length * shear, scale_atoms=True)
    return atoms


def random_system(seed: int, n: int, pbc: bool, charge: float = 0.0) -> Atoms:
    """Atoms at least 1.2 Angstrom apart in a small triclinic cell, or free."""
    rng = np.random.default_rng(seed)
    cell = (n / 12) ** (1 / 3) * np.array([[5.0, 0, 0], [1.2, 5.3, 0], [-0.9, 1.4, 4.8]])
    atoms = Atoms(cell=cell, pbc=pbc, info={"charge": charge})
    while len(atoms) < n:
        trial = atoms + Atoms(("Li", "F", "O", "H")[len(atoms) % 4], [rng.random(3) @ cell])
        others = range(len(trial) - 1)
        if len(trial) == 1 or trial.get_distances(-1, others, mic=pbc).min() > 1.2:
            atoms = trial
    if not pbc:
        atoms.cell = None
    atoms.info["charge"] = charge
    return atoms


def mixed() -> list[Atoms]:
    """Boxes and molecules, charged and neutral, one atom alone, one pair far apart."""
    far = Atoms("LiF", [[0, 0, 0], [0, 0, 9.0]])
    one = Atoms("O", [[0.5, 0, 0]], info={"charge": -1.0})
    return [
        random_system(1, 20, True),
        random_system(2, 9, False, charge=1.0),
        one,
        random_system(3, 14, True, charge=-2.0),
        far,
        random_system(4, 11, False),
    ]


def largest(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    """Largest difference."""
    assert a is not None
    assert b is not None
    return float((a - b).abs().max())


# ---------------------------------------------------------------- the same minimum


@KERNELS
@pytest.mark.parametrize(("charge", "tolerance"), [(0.0, 1e-4), (-2.0, 1e-6), (1.0, 1e-10)])
def test_iterations_end_at_the_dense_solution(
    box: Atoms, charge: float, tolerance: float, kernels: str
) -> None:
    box = box.copy()
    box.info["charge"] = charge
    batch = AtomsBatch.from_atoms(box)
    dense = potential_of(term("dense"))(batch)
    found = potential_of(term(exact=True, charge_tolerance=tolerance), kernels)(batch)
    assert largest(found.fields["charges"], dense.fields["charges"]) < 3 * tolerance + 1e-11
    # the energy's error is of second order, the forces' (in eV/A) of first
    assert largest(found.energy, dense.energy) < len(box) * (10 * tolerance) ** 2 + 1e-8
    assert largest(found.forces, dense.forces) < 10 * tolerance + 1e-7
    assert largest(found.stress, dense.stress) < 0.01 * tolerance + 1e-9
    assert float(found.fields["charges"].sum()) == pytest.approx(charge, abs=1e-11)


def test_mesh_meets_the_tolerance_of_the_lattice_sum(box: Atoms) -> None:
    batch = AtomsBatch.from_atoms(box)
    dense = potential_of(term("dense"))(batch)
    for tolerance in (1e-4, 1e-6):
        found = potential_of(term(tolerance=tolerance, charge_tolerance=1e-9))(batch)
        assert largest(found.fields["charges"], dense.fields["charges"]) < 2 * tolerance
        assert largest(found.energy, dense.energy) < 0.1 * tolerance * len(box)
        assert largest(found.forces, dense.forces) < 30 * tolerance


@KERNELS
def test_mixed_batch_is_each_system_alone_and_the_dense_solution(kernels: str) -> None:
    structures = mixed()
    qeq = term(exact=True, cutoff=8.0, tolerance=1e-10, charge_tolerance=1e-11)
    potential = potential_of(qeq, kernels, later=True)
    together = potential(AtomsBatch.from_atoms(structures))
    reference = term("dense", cutoff=8.0, tolerance=1e-10)
    dense = potential_of(reference, later=True)(AtomsBatch.from_atoms(structures))
    for name in ("energy", "forces", "stress"):
        assert largest(getattr(together, name), getattr(dense, name)) < 1e-7
    assert together.forces is not None
    start = 0
    for index, structure in enumerate(structures):
        alone = potential(AtomsBatch.from_atoms(structure))
        stop = start + len(structure)
        charges = together.fields["charges"][start:stop]
        assert largest(charges, alone.fields["charges"]) < 1e-12
        assert largest(together.energy[index], alone.energy[0]) < 1e-11
        assert largest(together.forces[start:stop], alone.forces) < 1e-10
        start = stop


def test_sixty_four_boxes_in_one_solve() -> None:
    structures = [random_system(seed, 12, True) for seed in range(4)] * 16
    for index, structure in enumerate(structures):
        structure.info["charge"] = float(index % 3 - 1)
    potential = potential_of(term(charge_tolerance=1e-8))
    together = potential(AtomsBatch.from_atoms(structures))
    assert together.forces is not None
    for index in (0, 5, 26, 63):
        alone = potential(AtomsBatch.from_atoms(structures[index]))
        mine = slice(12 * index, 12 * index + 12)
        assert largest(together.fields["charges"][mine], alone.fields["charges"]) < 1e-12
        assert largest(together.forces[mine], alone.forces) < 1e-11


def test_automatic_choice_is_made_for_each_system(box: Atoms) -> None:
    potential = potential_of(term("auto", exact=True, charge_tolerance=1e-10))
    twice = box.repeat((2, 1, 1))
    twice.rattle(0.01, seed=1)
    assert len(twice) > parts.CROSSOVER > len(box)
    structures = [*mixed(), twice, random_system(8, 10, True), twice]
    neighbors = potential.neighbor_list()
    found = potential(AtomsBatch.from_atoms(structures), neighbors)
    _, chosen = neighbors.plan(potential.terms["qeq"])
    assert [(part.dense, part.start.n_systems) for part in chosen] == [(True, 7), (False, 2)]
    dense = potential_of(term("dense"))(AtomsBatch.from_atoms(structures))
    assert largest(found.fields["charges"], dense.fields["charges"]) < 1e-9
    assert largest(found.energies, dense.energies) < 1e-7
    assert largest(found.forces, dense.forces) < 1e-7
    assert largest(found.stress, dense.stress) < 1e-8


def test_mode_may_change_between_evaluations() -> None:
    potential = potential_of(term(charge_tolerance=1e-9))
    batch = AtomsBatch.from_atoms(random_system(1, 12, True))
    neighbors = potential.neighbor_list(1.0)
    one = potential(batch, neighbors)
    other = potential.train()(batch, neighbors)
    again = potential.eval()(batch, neighbors)
    assert largest(one.forces, other.forces) < 3e-5
    assert largest(one.forces, again.forces) == 0.0


# ---------------------------------------------------------------- derivatives


@pytest.mark.parametrize(
    ("which", "later", "kernels"),
    [
        ("box", False, "auto"),
        ("box", True, "reference"),
        ("charged", True, "auto"),
        ("charged", False, "reference"),
        ("molecule", True, "auto"),
        ("molecule", True, "reference"),
    ],
)
def test_forces_and_stress_are_the_gradient(which: str, later: bool, kernels: str) -> None:
    # With a later term the charges' response counts: it comes from one more solve.
    # The cut of the real-space sum must not show in the differences; the mesh's forces and stress
    # are the gradient of its energy however coarse it is.
    atoms = random_system(3, 16, which != "molecule", charge=float(which != "box"))
    batch = AtomsBatch.from_atoms(atoms)
    qeq = term(cutoff=9.0, tolerance=1e-12, mesh_tolerance=1e-4, charge_tolerance=1e-11)
    potential = potential_of(qeq, kernels, later)
    neighbors = potential.neighbor_list(1.0)
    found = potential(batch, neighbors)
    assert found.forces is not None
    assert found.stress is not None

    def energy(moved: AtomsBatch) -> float:
        return float(potential(moved, neighbors, forces=False, stress=False).energy)

    h = 1e-4
    for atom, axis in ((0, 0), (5, 1), (11, 2)):
        step = torch.zeros_like(batch.positions)
        step[atom, axis] = h
        numeric = [energy(batch.moved(batch.positions + s * step)) for s in (1, -1)]
        expected = -(numeric[0] - numeric[1]) / (2 * h)
        assert float(found.forces[atom, axis]) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    if which == "molecule":
        return
    for a, b in ((0, 0), (1, 2), (0, 1)):
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[a, b] += h / 2
        strain[b, a] += h / 2
        numeric = []
        for m in (torch.eye(3) + strain, torch.eye(3) - strain):
            numeric.append(energy(batch.moved(batch.positions @ m, batch.cell @ m)))
        expected = (numeric[0] - numeric[1]) / (2 * h * float(batch.volume))
        assert float(found.stress[0, a, b]) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_response_to_features_and_positions_is_the_dense_one(box: Atoms) -> None:
    batch = AtomsBatch.from_atoms(box)
    weight = torch.linspace(-1, 1, len(box), dtype=torch.float64)
    gradients = []
    for qeq in (term("dense"), term(exact=True, charge_tolerance=1e-11)):
        potential = HybridPotential({"qeq": qeq}).eval()
        neighbors = potential.neighbor_list()
        neighbors.update(batch)
        positions = batch.positions.clone().requires_grad_()
        fields, _ = potential.evaluate_terms(batch.moved(positions), neighbors)
        leaves = (positions, qeq.electronegativity, qeq.log_hardness, qeq.width_logit)
        gradients.append(torch.autograd.grad((weight * fields["charges"]).sum(), leaves))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_second_derivatives_need_training_mode(box: Atoms) -> None:
    with pytest.raises(ConfigError, match=r"training mode.*got eval mode"):
        potential_of(term())(AtomsBatch.from_atoms(box), create_graph=True)


# ---------------------------------------------------------------- kernels, preconditioner


def test_table_holds_the_function_and_its_slope() -> None:
    t = np.arange(KNOTS + 2) * (END / KNOTS)
    table, root = boys_table(), np.sqrt(t[1:])
    np.testing.assert_allclose(table[1:, 0], erf(root) / root, rtol=1e-14)
    slope = (2 / np.sqrt(np.pi) * np.exp(-t[1:]) - table[1:, 0]) / (2 * t[1:])
    np.testing.assert_allclose(table[1:, 1] * KNOTS / END, slope, rtol=1e-9, atol=1e-13)
    assert table[0, 1] * KNOTS / END == pytest.approx(-2 / (3 * np.sqrt(np.pi)), rel=1e-12)


def test_sparse_inverse_is_the_inverse_of_each_cluster() -> None:
    # 14 atoms within 5 A of each other: every cluster is whole and G^T G is the inverse itself.
    rng = np.random.default_rng(0)
    atoms = Atoms("H14", rng.random((14, 3)) * 2.8)
    batch, qeq = AtomsBatch.from_atoms(atoms), term()
    neighbors = NeighborList(qeq.requests(), 0.0, [qeq])
    neighbors.update(batch)
    widths, eta = qeq.atom_widths(batch).detach(), qeq.hardness(batch).detach()
    inverse = charge_inverse(
        batch, neighbors.rows(qeq.requests()[0]), eta, widths, COULOMB_CONSTANT
    )
    r = atoms.get_all_distances() + np.eye(14)
    s = widths.numpy()
    matrix = COULOMB_CONSTANT * erf(r / np.sqrt(2 * (s[:, None] ** 2 + s**2))) / r
    np.fill_diagonal(matrix, eta.numpy() + COULOMB_CONSTANT / (np.sqrt(np.pi) * s))
    unit = torch.eye(14, dtype=torch.float64)
    for kernels in (None, "numba"):
        product = inverse.product(kernels)  # type: ignore[arg-type]
        rows = torch.stack([product(vector.contiguous()) for vector in unit])
        np.testing.assert_allclose(rows, np.linalg.inv(matrix), rtol=1e-9, atol=1e-12)


def test_preconditioner_saves_iterations_and_pays_no_heed_to_small_cells(box: Atoms) -> None:
    def iterations(atoms: Atoms) -> int:
        potential = potential_of(term(charge_tolerance=1e-6))
        neighbors = potential.neighbor_list()
        potential(AtomsBatch.from_atoms(atoms), neighbors)
        return int(neighbors.plan(potential.terms["qeq"])[1][0].iterations)

    assert iterations(box) <= 14  # 30 with the diagonal alone
    assert iterations(random_system(1, 6, True)) <= 6  # an n-dimensional space is exhausted


# ---------------------------------------------------------------- warm start


def trajectory(atoms: Atoms, steps: int) -> list[AtomsBatch]:
    """Atoms on straight lines at about 300 K, 0.5 fs apart."""
    batch = AtomsBatch.from_atoms(atoms)
    torch.manual_seed(0)
    step = 0.5 * 0.0157 / torch.tensor(np.sqrt(atoms.get_masses()))[:, None]
    step = step * torch.randn(len(atoms), 3, dtype=torch.float64)
    return [batch.moved(batch.positions + k * step) for k in range(steps)]


def iterations(evaluator: Evaluator, qeq: Any) -> int:
    """Of the solver, in the last evaluation."""
    return evaluator.neighbors.plan(qeq)[1][0].iterations


def remembering(potential: HybridPotential) -> Evaluator:
    return Evaluator(potential, 0.3)


def test_warm_start_saves_iterations_and_agrees_with_a_cold_one(box: Atoms) -> None:
    potential = potential_of(term(charge_tolerance=1e-6))
    qeq = potential.terms["qeq"]
    warm, cold = remembering(potential), Evaluator(potential, 0.3, trajectory=False)
    for step, frame in enumerate(trajectory(box, 8)):
        one, other = warm.evaluate(frame), cold.evaluate(frame)
        assert largest(one.fields["charges"], other.fields["charges"]) < 3e-6
        assert largest(one.forces, other.forces) < 2e-5
        if step >= 4:
            saved = iterations(cold, qeq) - iterations(warm, qeq)
            assert saved >= 4


def test_results_without_a_memory_do_not_depend_on_earlier_calls(box: Atoms) -> None:
    potential = potential_of(term(charge_tolerance=1e-4))
    neighbors = potential.neighbor_list(0.3)
    first, *_, last = trajectory(box, 3)
    one = potential(first, neighbors)
    potential(last, neighbors)
    again = potential(first, neighbors)
    assert largest(one.forces, again.forces) == 0.0


def test_same_frame_again_gives_the_same_bits(box: Atoms) -> None:
    potential = potential_of(term(charge_tolerance=1e-5))
    evaluator = remembering(potential)
    for frame in trajectory(box, 4):
        one = evaluator.evaluate(frame)
        again = evaluator.evaluate(frame)
        assert largest(one.forces, again.forces) == 0.0
        assert largest(one.fields["charges"], again.fields["charges"]) == 0.0


def test_restored_history_goes_on_bit_for_bit(box: Atoms) -> None:
    frames = trajectory(box, 8)
    potential = potential_of(term(charge_tolerance=1e-5))
    whole = remembering(potential)
    straight = [whole.evaluate(frame) for frame in frames]

    first = remembering(potential)
    for frame in frames[:4]:
        first.evaluate(frame)
    state = first.get_state()
    resumed = remembering(potential)
    resumed.set_state(state)
    for index in (3, 4, 5, 6, 7):  # the last step before the break is computed again
        again = resumed.evaluate(frames[index])
        assert largest(straight[index].forces, again.forces) == 0.0
    with pytest.raises(ConfigError, match="history with 'last_cell'"):
        resumed.set_state({k: v for k, v in state.items() if not k.endswith("last_cell")})


def test_history_survives_a_new_order_of_atoms(box: Atoms) -> None:
    first, second, third, *_ = trajectory(box, 3)
    order = torch.randperm(first.n_atoms, generator=torch.Generator().manual_seed(1))
    charges = torch.linspace(-1, 1, first.n_atoms, dtype=torch.float64)
    plain, shuffled = History(), History()
    for frame in (first, second):
        plain.add(frame, charges)
    shuffled.add(first.reordered(order), charges[order])
    shuffled.add(second, charges)
    expected, found = plain.guess(third), shuffled.guess(third.reordered(order))
    assert largest(expected[order] if expected is not None else None, found) < 1e-14
    repeated = shuffled.guess(second.reordered(order))
    assert largest(repeated, charges[order]) == 0.0


def test_history_forgets_other_systems_and_jumps(box: Atoms) -> None:
    first, second, *_ = trajectory(box, 3)
    history = History()
    assert history.guess(first) is None
    history.add(first, torch.ones(first.n_atoms, dtype=torch.float64))
    assert history.guess(first) is not None
    guess = history.guess(second, second.charge)
    assert guess is not None
    assert float(guess.sum()) == pytest.approx(0.0, abs=1e-12)  # the total charge of the box
    far = second.moved(second.positions + 1.0)
    assert history.guess(far) is None
    assert len(history) == 0
    history.add(first, torch.ones(first.n_atoms, dtype=torch.float64))
    assert history.guess(AtomsBatch.from_atoms([box, box])) is None


def test_predictor_continues_polynomials() -> None:
    for n in range(1, 5):
        steps = -np.arange(1.0, n + 1)
        for power in range(n):
            assert np.array(predictor(n)) @ steps**power == pytest.approx(float(power == 0))


# ---------------------------------------------------------------- settings, errors


def test_old_configs_load_and_new_ones_come_back() -> None:
    qeq = term(charge_tolerance=1e-5)
    config = qeq.config()
    assert QEq(**config).config() == config
    old = {k: v for k, v in config.items() if k not in ("solver", "charge_tolerance")}
    assert QEq(**old).config()["solver"] == "auto"
    assert QEq(**old).state_dict().keys() == qeq.state_dict().keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "cg"}, "solver among auto, dense, iterative, got 'cg'"),
        ({"charge_tolerance": 0.0}, "charge_tolerance of 1e-13 to 1e-2 e, got 0.0"),
    ],
)
def test_errors_of_the_configuration(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        term(**options)  # type: ignore[arg-type]


def test_indefinite_matrix_is_refused(box: Atoms) -> None:
    class Indefinite(QEq):
        """Negative hardness: no minimum."""

        def atom_parameters(
            self, batch: AtomsBatch, fields: Fields
        ) -> tuple[torch.Tensor, torch.Tensor]:
            chi, eta = super().atom_parameters(batch, fields)
            return chi, eta - 40.0

    for solver in ("dense", "iterative"):
        qeq = Indefinite(**rappe_goddard(ELEMENTS), solver=solver)  # type: ignore[arg-type]
        with pytest.raises(StructureError, match=r"positive definite.*structure 0"):
            potential_of(qeq)(AtomsBatch.from_atoms(box))


def test_size_limit_is_the_dense_solvers(monkeypatch: pytest.MonkeyPatch, box: Atoms) -> None:
    batch = AtomsBatch.from_atoms(box)
    assert isinstance(potential_of(term("auto", max_atoms=10))(batch), Evaluation)
    with pytest.raises(StructureError, match=r"at most 10 atoms .*GB.*solver='iterative'"):
        potential_of(term("dense", max_atoms=10))(batch)
    with pytest.raises(StructureError, match="at most 10 atoms"):
        HybridPotential({"qeq": term("auto", max_atoms=10)}).train()(batch)
    assert parts.CROSSOVER < 4000


def test_a_calculator_goes_on_bit_for_bit_with_its_history(box: Atoms) -> None:
    atoms = box.copy()
    step = np.random.default_rng(0).normal(scale=2e-3, size=atoms.positions.shape)
    first = HybridFF(potential_of(term()))
    for _ in range(6):
        atoms.positions += step
        atoms.calc = first
        atoms.get_forces()
    second = HybridFF(potential_of(term()))
    second.set_state(first.get_state())
    atoms.positions += step
    expected, again = atoms.get_forces(), atoms.copy()
    again.calc = second
    np.testing.assert_array_equal(again.get_forces(), expected)
    fresh = atoms.copy()
    fresh.calc = HybridFF(potential_of(term()))
    np.testing.assert_allclose(fresh.get_forces(), expected, atol=1e-4)
    assert not np.array_equal(fresh.get_forces(), expected)  # the history took part
