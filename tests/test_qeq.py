"""Charge equilibration against dense linear algebra in numpy, analytic cases and differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.special import erf

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.terms.qeq import FeatureQEq, QEq
from hff_ase.terms.qeq_parameters import RAPPE_GODDARD, rappe_goddard
from hff_ase.terms.short_range import ShortRange
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT

TABLES = {
    "electronegativity": {"H": 4.5, "Li": 3.0, "O": 8.7, "F": 10.9},
    "hardness": {"H": 6.0, "Li": 4.0, "O": 5.0, "F": 7.0},
    "width": {"H": 0.5, "Li": 0.75, "O": 0.7, "F": 0.6},
}


class DipoleLike(Term):
    """sum_i q_i^2 x_i: a later term that uses the charges."""

    kind = "dipole_like"
    needs = ("charges",)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> torch.Tensor:
        return fields["charges"].square() * batch.positions[:, 0]


class Features(Term):
    """Smooth node features: a sum of Gaussians of the distances to the neighbours."""

    kind = "features"
    gives = ("node_features",)

    def requests(self) -> tuple[PairRequest, ...]:
        return (PairRequest(3.0, "full"),)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> torch.Tensor:
        pairs = neighbors.pairs(self.requests()[0])
        centres = torch.tensor([1.0, 1.8], dtype=torch.float64)
        basis = torch.exp(-((pairs.distance[:, None] - centres) ** 2)) * (
            (3.0 - pairs.distance).clamp(min=0)[:, None] ** 3
        )
        zero = basis.new_zeros(batch.n_atoms, 2)
        fields["node_features"] = zero.index_add(0, pairs.i, basis)
        return zero[:, 0]


def term(**options: object) -> QEq:
    """Accurate enough to compare charges to 1e-10 e."""
    return QEq(**{**TABLES, "cutoff": 8.0, "tolerance": 1e-11, **options})  # type: ignore[arg-type]


def dense(seed: int = 0, n: int = 12, pbc: bool = True, charge: float = 0.0) -> Atoms:
    """Random atoms at least 1.2 Angstrom apart, in a triclinic cell or free."""
    rng = np.random.default_rng(seed)
    cell = (n / 12) ** (1 / 3) * np.array([[5.0, 0, 0], [1.2, 5.3, 0], [-0.9, 1.4, 4.8]])
    atoms = Atoms(cell=cell, pbc=pbc)
    while len(atoms) < n:
        symbol = ("Li", "F", "O", "H")[len(atoms) % 4]
        trial = atoms + Atoms(symbol, positions=[rng.random(3) @ cell])
        others = range(len(trial) - 1)
        if len(trial) == 1 or trial.get_distances(-1, others, mic=pbc).min() > 1.2:
            atoms = trial
    if not pbc:
        atoms.cell = None
    atoms.info["charge"] = charge
    return atoms


def gaussian_matrix_numpy(atoms: Atoms) -> np.ndarray:
    """J from the definition: erf in a molecule; in a box the Fourier series of the Gaussians.

    J_ij = 4 pi/V sum_{k != 0} exp(-k^2 (s_i^2 + s_j^2)/2)/k^2 cos k.(r_i - r_j): no splitting, no
    real space, self-interaction included.
    """
    widths = np.array([TABLES["width"][s] for s in atoms.symbols])
    vectors = atoms.positions[:, None] - atoms.positions[None]
    if not atoms.pbc.all():
        r = np.linalg.norm(vectors, axis=-1) + np.eye(len(atoms))
        spread = np.sqrt(2 * (widths[:, None] ** 2 + widths[None] ** 2))
        matrix = erf(r / spread) / r
        np.fill_diagonal(matrix, 1 / (math.sqrt(math.pi) * widths))
        return matrix
    reciprocal = 2 * np.pi * np.linalg.inv(atoms.cell.array).T
    k_max = math.sqrt(-math.log(1e-13)) / widths.min()
    limit = np.ceil(k_max * atoms.cell.lengths() / (2 * np.pi)).astype(int)
    axes = np.meshgrid(*(np.arange(-m, m + 1) for m in limit), indexing="ij")
    k = np.stack(axes, -1).reshape(-1, 3) @ reciprocal
    k2 = (k**2).sum(-1)
    k, k2 = k[(k2 > 1e-9) & (k2 < k_max**2)], k2[(k2 > 1e-9) & (k2 < k_max**2)]
    wave = np.exp(1j * atoms.positions @ k.T - 0.5 * k2 * widths[:, None] ** 2)
    return 4 * np.pi / atoms.get_volume() * ((wave / k2) @ wave.conj().T).real


def solve_numpy(atoms: Atoms) -> tuple[np.ndarray, float]:
    """Charges and energy from the bordered linear system."""
    n = len(atoms)
    chi = np.array([TABLES["electronegativity"][s] for s in atoms.symbols])
    eta = np.array([TABLES["hardness"][s] for s in atoms.symbols])
    hardness = np.diag(eta) + COULOMB_CONSTANT * gaussian_matrix_numpy(atoms)
    bordered = np.block([[hardness, np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    q = np.linalg.solve(bordered, np.append(-chi, atoms.info["charge"]))[:n]
    return q, float(chi @ q + 0.5 * q @ hardness @ q)


def evaluate(structures: Atoms | list[Atoms], qeq: QEq | None = None) -> Evaluation:
    """One evaluation with a fresh neighbour list, in eval mode."""
    return HybridPotential({"qeq": qeq or term()}).eval()(AtomsBatch.from_atoms(structures))


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("charge", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("pbc", [False, True])
def test_charges_and_energy_solve_the_dense_system(
    pbc: bool, charge: float, training: bool
) -> None:
    atoms = dense(seed=1, pbc=pbc, charge=charge)
    charges, energy = solve_numpy(atoms)
    found = HybridPotential({"qeq": term()}).train(training)(AtomsBatch.from_atoms(atoms))
    np.testing.assert_allclose(found.fields["charges"], charges, atol=1e-10)
    assert float(found.energy) == pytest.approx(energy, abs=1e-9)
    assert float(found.energies.sum()) == pytest.approx(energy, abs=1e-9)
    assert float(found.fields["charges"].sum()) == pytest.approx(charge, abs=1e-12)


def test_two_atoms_analytically() -> None:
    atoms = Atoms("LiF", positions=[[0, 0, 0], [1.6, 0, 0]])
    r, k = 1.6, COULOMB_CONSTANT
    coupling = k * math.erf(r / math.sqrt(2 * (0.75**2 + 0.6**2))) / r
    stiffness = 4.0 + k / (math.sqrt(math.pi) * 0.75) + 7.0 + k / (math.sqrt(math.pi) * 0.6)
    expected = (10.9 - 3.0) / (stiffness - 2 * coupling)
    found = evaluate(atoms)
    np.testing.assert_allclose(found.fields["charges"], [expected, -expected], atol=1e-12)
    assert float(found.energy) == pytest.approx(-0.5 * (10.9 - 3.0) * expected, abs=1e-11)


def test_one_atom_has_the_total_charge() -> None:
    found = evaluate(Atoms("Li", positions=[[0, 0, 0]], info={"charge": 1.0}))
    assert float(found.fields["charges"]) == pytest.approx(1.0)
    expected = 3.0 + 0.5 * (4.0 + COULOMB_CONSTANT / (math.sqrt(math.pi) * 0.75))
    assert float(found.energy) == pytest.approx(expected)
    assert found.forces is not None
    assert float(found.forces.abs().max()) == 0.0


def test_result_does_not_depend_on_the_splitting() -> None:
    atoms = dense(seed=2, charge=1.0)
    one, other = (evaluate(atoms, term(cutoff=cutoff)) for cutoff in (8.5, 12.0))
    torch.testing.assert_close(one.fields["charges"], other.fields["charges"], atol=1e-9, rtol=0)
    assert one.stress is not None
    assert other.stress is not None
    torch.testing.assert_close(one.stress, other.stress, atol=1e-9, rtol=0)


# ---------------------------------------------------------------- derivatives


def numeric_gradient(
    potential: HybridPotential, batch: AtomsBatch, atom: int, axis: int, h: float = 1e-4
) -> float:
    """-dE/dx by central differences."""
    step = torch.zeros_like(batch.positions)
    step[atom, axis] = h
    energies = [
        float(potential(batch.moved(batch.positions + s * step), forces=False, stress=False).energy)
        for s in (1, -1)
    ]
    return -(energies[0] - energies[1]) / (2 * h)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("pbc", [False, True])
def test_forces_are_the_gradient(pbc: bool, later: bool, training: bool) -> None:
    # With a later term the charges' response counts: it comes from the implicit derivative.
    batch = AtomsBatch.from_atoms(dense(seed=3, pbc=pbc, charge=1.0))
    terms: dict[str, Term] = {"qeq": term(tolerance=1e-12, cutoff=9.0)}
    if later:
        terms["later"] = DipoleLike()
    potential = HybridPotential(terms).train(training)
    found = potential(batch)
    assert found.forces is not None
    for atom, axis in ((0, 0), (5, 1), (11, 2)):
        expected = numeric_gradient(potential, batch, atom, axis)
        assert float(found.forces[atom, axis]) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("charge", [0.0, 1.0])
def test_stress_is_the_gradient(charge: float, training: bool) -> None:
    batch = AtomsBatch.from_atoms(dense(seed=4, charge=charge))
    potential = HybridPotential({"qeq": term(tolerance=1e-12, cutoff=9.0)}).train(training)
    found = potential(batch)
    assert found.stress is not None
    h = 1e-5
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[a, b] += h / 2
        strain[b, a] += h / 2
        energies = []
        for m in (torch.eye(3) + strain, torch.eye(3) - strain):
            moved = batch.moved(batch.positions @ m, batch.cell @ m)
            energies.append(float(potential(moved, forces=False, stress=False).energy))
        numeric = (energies[0] - energies[1]) / (2 * h * float(batch.volume))
        assert float(found.stress[0, a, b]) == pytest.approx(numeric, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("training", [False, True])
def test_response_of_the_charges_to_electronegativity(training: bool) -> None:
    batch = AtomsBatch.from_atoms(dense(seed=5))
    qeq = term()
    potential = HybridPotential({"qeq": qeq}).train(training)
    neighbors = potential.neighbor_list()
    neighbors.update(batch)
    weight = torch.linspace(-1, 1, 12, dtype=torch.float64)

    def weighted() -> torch.Tensor:
        fields, _ = potential.evaluate_terms(batch, neighbors)
        return (weight * fields["charges"]).sum()

    tables = (qeq.electronegativity, qeq.log_hardness, qeq.width_logit)
    gradients = torch.autograd.grad(weighted(), tables)
    for table, gradient in zip(tables, gradients, strict=True):
        for row in range(4):
            values = []
            for h in (1e-4, -1e-4):
                with torch.no_grad():
                    table[row] += h
                    values.append(float(weighted()))
                    table[row] -= h
            numeric = (values[0] - values[1]) / 2e-4
            assert float(gradient[row]) == pytest.approx(numeric, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("later", [False, True])
def test_gradient_of_a_loss_on_forces(later: bool) -> None:
    batch = AtomsBatch.from_atoms([dense(seed=6, n=8), dense(seed=7, n=5, pbc=False, charge=-1.0)])
    qeq = term(cutoff=7.0, tolerance=1e-8)
    terms: dict[str, Term] = {"qeq": qeq}
    if later:
        terms["later"] = DipoleLike()
    potential = HybridPotential(terms).train()
    target = torch.linspace(-1, 1, 39, dtype=torch.float64).view(13, 3)

    def loss() -> torch.Tensor:
        found = potential(batch, create_graph=True)
        assert found.forces is not None
        assert found.stress is not None
        return (found.forces - target).square().mean() + found.stress.square().sum()

    parameters = (qeq.electronegativity, qeq.log_hardness, qeq.width_logit)
    gradients = torch.autograd.grad(loss(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        for row in range(4):
            values = []
            for h in (1e-4, -1e-4):
                with torch.no_grad():
                    parameter[row] += h
                values.append(float(loss().detach()))
                with torch.no_grad():
                    parameter[row] -= h
            numeric = (values[0] - values[1]) / 2e-4
            assert float(gradient[row]) == pytest.approx(numeric, rel=1e-5, abs=1e-7)


def test_second_derivatives_need_training_mode() -> None:
    batch = AtomsBatch.from_atoms(dense(seed=1, n=4))
    with pytest.raises(ConfigError, match=r"training mode.*got eval mode"):
        HybridPotential({"qeq": term()}).eval()(batch, create_graph=True)


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("training", [False, True])
def test_batch_is_each_system_alone(training: bool) -> None:
    one = Atoms("O", positions=[[0.5, 0, 0]], info={"charge": -1.0})
    structures = [dense(1, 8), dense(2, 5, pbc=False, charge=1.0), one, dense(3, 14, charge=-1.0)]
    potential = HybridPotential({"qeq": term(), "later": DipoleLike()}).train(training)
    together = potential(AtomsBatch.from_atoms(structures))
    assert together.forces is not None
    assert together.stress is not None
    start = 0
    for index, structure in enumerate(structures):
        alone = potential(AtomsBatch.from_atoms(structure))
        stop = start + len(structure)
        for name in ("energies", "forces"):
            whole, part = getattr(together, name)[start:stop], getattr(alone, name)
            torch.testing.assert_close(whole, part, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            together.fields["charges"][start:stop], alone.fields["charges"], rtol=0, atol=1e-11
        )
        assert alone.stress is not None
        torch.testing.assert_close(together.stress[index], alone.stress[0], rtol=1e-9, atol=1e-10)
        start = stop


# ---------------------------------------------------------------- features, tables, errors


@pytest.mark.parametrize("training", [False, True])
def test_features_shift_the_parameters(training: bool) -> None:
    torch.manual_seed(0)
    batch = AtomsBatch.from_atoms(dense(seed=8, n=8))
    qeq = FeatureQEq(channels=2, hidden=(4,), **TABLES, cutoff=9.0, tolerance=1e-11).double()
    potential = HybridPotential({"features": Features(), "qeq": qeq}).train(training)
    plain = HybridPotential({"qeq": term(cutoff=9.0)}).train(training)
    torch.testing.assert_close(potential(batch).energy, plain(batch).energy)
    with torch.no_grad():
        for parameter in qeq.head.parameters():
            parameter.normal_(std=0.3)
    found = potential(batch)
    assert float((found.energy - plain(batch).energy).abs()) > 0.1
    assert found.forces is not None
    expected = numeric_gradient(potential, batch, 2, 1)
    assert float(found.forces[2, 1]) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert HybridPotential({"f": Features(), "q": FeatureQEq(**qeq.config())})


def test_default_parameters_give_sensible_charges() -> None:
    qeq = QEq(**rappe_goddard(["H", "Li", "O", "F"]))  # type: ignore[arg-type]
    water = Atoms("OH2", positions=[[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    salt = Atoms("LiF", positions=[[0, 0, 0], [1.56, 0, 0]])
    charges = evaluate([water, salt], qeq).fields["charges"]
    assert -1.1 < float(charges[0]) < -0.4
    assert float(charges[1]) == pytest.approx(float(charges[2]))
    assert 0.4 < float(charges[3]) < 1.1


def test_every_default_is_usable_and_config_makes_the_same_term() -> None:
    qeq = QEq(**rappe_goddard(RAPPE_GODDARD))  # type: ignore[arg-type]
    again = QEq(**qeq.config())
    assert again.config() == qeq.config()
    for name, value in qeq.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    with pytest.raises(ConfigError, match="got 'Xe'"):
        rappe_goddard(["H", "Xe"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hardness": {"H": 1.0}}, "for the same elements"),
        (
            {"hardness": {**TABLES["hardness"], "O": -1.0}},
            "positive hardness in eV, got -1.0 for O",
        ),
        ({"width": {**TABLES["width"], "Li": 2.5}}, "width between 0 and .* got 2.5 for Li"),
        ({"tolerance": 1.0}, "tolerance of 1e-14 to 1e-2, got 1.0"),
    ],
)
def test_errors_of_the_configuration(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        term(**options)


def test_errors_of_the_structure() -> None:
    with pytest.raises(StructureError, match=r"H Li O F.*got Na \(atom 1\)"):
        evaluate(Atoms("HNa", positions=np.eye(3)[:2] * 2))
    with pytest.raises(StructureError, match=r"at most 4 atoms .* got 6 .*GB"):
        evaluate(dense(n=6), term(max_atoms=4, solver="dense"))


def test_feature_qeq_follows_the_precision_of_its_network() -> None:
    torch.manual_seed(0)
    options = {"channels": 8, "heads": 2, "layers": 2, "n_radial": 4}
    tables = rappe_goddard(["H", "O"])
    terms = {
        "net": ShortRange(["H", "O"], "get", options, (4,)),
        "charges": FeatureQEq(channels=8, hidden=(4,), **tables),
    }
    torch.nn.init.normal_(terms["charges"].head[-1].weight)
    potential = HybridPotential(terms).eval()
    atoms = molecule("H2O")
    single = potential(AtomsBatch.from_atoms(atoms))
    double = potential.set_dtype(torch.float64)(AtomsBatch.from_atoms(atoms))
    assert float((single.energy - double.energy).abs()) < 1e-4
    assert float((single.fields["charges"] - double.fields["charges"]).abs().max()) < 1e-5
