"""The Coulomb term against Madelung constants, other codes, formulas and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.fields import FIELDS
from hff_ase.longrange.bspline import Grid, Interpolate, SpreadCharges
from hff_ase.longrange.ewald import ReciprocalEwald
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.neighborhood import Neighborhood
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT


class GivenCharges(Term):
    """Charges from a list or, with ``response``, also from where the atoms are."""

    kind = "given_charges"
    gives = ("charges",)

    def __init__(self, charges: np.ndarray, response: bool = False) -> None:
        super().__init__()
        self.charges = torch.as_tensor(charges)
        self.response = response

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> torch.Tensor:
        charges = self.charges
        if self.response:
            # of fractional coordinates: periodic, and untouched by a strain; molecules: of x
            scaled = torch.einsum(
                "na,nab->nb", batch.positions, torch.linalg.inv(batch.cell)[batch.system]
            )
            charges = charges + 0.2 * torch.sin(2 * math.pi * scaled).sum(-1)
            mean = batch.system_sum(charges) / batch.counts
            charges = charges - mean[batch.system]
        fields["charges"] = charges
        return torch.zeros_like(charges)


def evaluate(
    structures: Atoms | list[Atoms],
    charges: np.ndarray,
    method: str,
    *,
    response: bool = False,
    **options: object,
) -> Evaluation:
    """One evaluation with a fresh neighbour list."""
    terms = {"q": GivenCharges(charges, response), "coulomb": Coulomb(method=method, **options)}  # type: ignore[arg-type]
    return HybridPotential(terms)(AtomsBatch.from_atoms(structures))


def ionic_box(n: int = 24, seed: int = 0, skew: float = 1.0) -> tuple[Atoms, np.ndarray]:
    """A dense triclinic box of ions, no two closer than 1.3 Angstrom."""
    rng = np.random.default_rng(seed)
    scale = (n / 24) ** (1 / 3)
    cell = scale * np.array([[6.0, 0, 0], [1.4 * skew, 6.4, 0], [-1.1 * skew, 1.7 * skew, 5.8]])
    atoms = Atoms(cell=cell, pbc=True)
    while len(atoms) < n:
        trial = atoms + Atoms("H", positions=[rng.random(3) @ cell])
        if len(trial) == 1 or trial.get_distances(-1, range(len(trial) - 1), mic=True).min() > 1.3:
            atoms = trial
    charges = rng.normal(size=n)
    return atoms, charges - charges.mean()


def relative_rms(value: torch.Tensor, reference: torch.Tensor) -> float:
    """RMS deviation over RMS of the reference."""
    return float((value - reference).square().mean().sqrt() / reference.square().mean().sqrt())


# ---------------------------------------------------------------- crystals

CRYSTALS = {  # name: structure, lattice constant, nearest distance / a, charges, Madelung constant
    "NaCl": ("rocksalt", 0.5, (1, -1), 1.7475645946331822),
    "CsCl": ("cesiumchloride", math.sqrt(3) / 2, (1, -1), 1.7626747730709),
    "ZnS": ("zincblende", math.sqrt(3) / 4, (1, -1), 1.6380550533888),
    "CaF2": ("fluorite", math.sqrt(3) / 4, (2, -1, -1), 5.0387848813064),
}


def crystal(name: str, a: float = 5.0) -> tuple[Atoms, np.ndarray, float]:
    """A primitive cell, its charges and the energy per formula unit."""
    kind, nearest, charges, madelung = CRYSTALS[name]
    atoms = bulk(name, kind, a=a)
    return atoms, np.array(charges, dtype=float), -COULOMB_CONSTANT * madelung / (nearest * a)


@pytest.mark.parametrize("repeat", [2, 3])
@pytest.mark.parametrize("name", CRYSTALS)
def test_madelung_constants_by_ewald(name: str, repeat: int) -> None:
    primitive, charges, energy = crystal(name)
    atoms = primitive.repeat(repeat)
    found = evaluate(atoms, np.tile(charges, repeat**3), "ewald", cutoff=7.0, tolerance=1e-9)
    assert float(found.energy) / repeat**3 == pytest.approx(energy, rel=1e-8)
    assert found.forces is not None
    assert float(found.forces.abs().max()) < 1e-7


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("name", CRYSTALS)
def test_madelung_constants_by_mesh(name: str, tolerance: float) -> None:
    primitive, charges, energy = crystal(name)
    atoms = primitive.repeat(2)
    atoms.positions += [0.3, 0.7, -0.4]  # off the mesh points
    found = evaluate(atoms, np.tile(charges, 8), "pme", cutoff=6.0, tolerance=tolerance)
    # In a crystal whole shells sit just beyond the cutoff and their truncation adds up: the exact
    # sum at this cutoff and tolerance is off by up to twice the tolerance as well.
    assert float(found.energy) / 8 == pytest.approx(energy, rel=2 * tolerance)
    exact = evaluate(atoms, np.tile(charges, 8), "ewald", cutoff=6.0, tolerance=tolerance)
    assert float(found.energy) == pytest.approx(float(exact.energy), rel=tolerance)


def test_stress_of_a_crystal_follows_from_its_energy() -> None:
    atoms, charges, _ = crystal("NaCl")
    found = evaluate(atoms, charges, "ewald", cutoff=9.0, tolerance=1e-9)
    assert found.stress is not None
    expected = -float(found.energy) / (3 * atoms.get_volume())  # E ~ 1/a, isotropic
    np.testing.assert_allclose(found.stress[0], np.eye(3) * expected, atol=1e-9)


def test_charged_cell_is_a_wigner_lattice() -> None:
    # One electron per cubic cell in a uniform background: E = -alpha_M k_e q^2 / (2 a) with
    # alpha_M = 2.8372974795 (Leslie & Gillan, J. Phys. C 18, 973 (1985)).
    atoms = Atoms("H", positions=[[1.0, 2.0, 3.0]], cell=[4.0] * 3, pbc=True)
    for method, accuracy in (("ewald", 1e-9), ("pme", 1e-7)):
        found = evaluate(atoms, np.array([1.0]), method, cutoff=6.0, tolerance=accuracy)
        expected = -2.837297479480620 * COULOMB_CONSTANT / 8.0
        assert float(found.energy) == pytest.approx(expected, rel=10 * accuracy)


# ---------------------------------------------------------------- mesh against exact sum


@pytest.mark.parametrize("cutoff", [5.0, 8.0])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-4, 1e-5, 1e-6, 1e-8])
def test_mesh_meets_the_tolerance(cutoff: float, tolerance: float) -> None:
    atoms, charges = ionic_box(120)
    exact = evaluate(atoms, charges, "ewald", cutoff=cutoff, tolerance=1e-12)
    mesh = evaluate(atoms, charges, "pme", cutoff=cutoff, tolerance=tolerance)
    assert exact.forces is not None
    assert mesh.forces is not None
    assert relative_rms(mesh.forces, exact.forces) < 1.2 * tolerance
    assert float(mesh.energy) == pytest.approx(float(exact.energy), rel=tolerance)
    assert mesh.stress is not None
    assert exact.stress is not None
    assert relative_rms(mesh.stress, exact.stress) < 10 * tolerance


@pytest.mark.parametrize("method", ["ewald", "pme"])
def test_result_does_not_depend_on_the_splitting(method: str) -> None:
    atoms, charges = ionic_box(30, seed=3)
    charges = charges + 0.1  # charged: the background depends on alpha term by term
    one, other = (
        evaluate(atoms, charges, method, cutoff=cutoff, tolerance=1e-9) for cutoff in (5.0, 9.0)
    )
    assert float(one.energy) == pytest.approx(float(other.energy), rel=1e-7)
    assert one.forces is not None
    assert other.forces is not None
    assert relative_rms(one.forces, other.forces) < 1e-6
    assert one.stress is not None
    assert other.stress is not None
    assert relative_rms(one.stress, other.stress) < 1e-6


def test_agrees_with_torch_pme() -> None:
    torchpme = pytest.importorskip("torchpme", reason="needs torch-pme as the other code")
    atoms, charges = ionic_box(40, seed=5)
    batch = AtomsBatch.from_atoms(atoms)
    potential = HybridPotential({"q": GivenCharges(charges), "c": Coulomb("ewald", 7.0, 1e-9)})
    ours = potential(batch)
    neighbors = potential.neighbor_list()
    neighbors.update(batch)
    pairs = neighbors.view(potential.requests()[0])
    smearing = 7.0 / 6.5 / math.sqrt(2.0)
    calculator = torchpme.EwaldCalculator(
        torchpme.CoulombPotential(smearing), lr_wavelength=smearing / 5.0
    ).double()
    positions = batch.positions.clone().requires_grad_()
    moved = batch.moved(positions)
    theirs = calculator(
        charges=torch.as_tensor(charges)[:, None],
        cell=batch.cell[0],
        positions=positions,
        neighbor_indices=torch.stack([pairs.i, pairs.j], 1),
        neighbor_distances=torch.linalg.vector_norm(pairs.vectors(moved), dim=-1),
    )
    energy = COULOMB_CONSTANT * (torch.as_tensor(charges) * theirs[:, 0]).sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    assert float(ours.energy) == pytest.approx(float(energy.detach()), rel=1e-7)
    assert ours.forces is not None
    assert relative_rms(ours.forces, -gradient) < 1e-7


# ---------------------------------------------------------------- molecules and damping


def direct_sum(positions: np.ndarray, charges: np.ndarray, damping: bool) -> float:
    """k_e sum_{i<j} q_i q_j g(r)/r, written out."""
    total = 0.0
    for i in range(len(charges)):
        for j in range(i):
            r = float(np.linalg.norm(positions[i] - positions[j]))
            x = r / 2.2
            g = x / (1 + math.log1p(math.exp(18.7 * (x - 1))) / 18.7) if damping else 1.0
            total += COULOMB_CONSTANT * charges[i] * charges[j] * g / r
    return total


@pytest.mark.parametrize("damping", [None, (2.2, 18.7)])
def test_molecule_is_the_direct_sum(damping: tuple[float, float] | None) -> None:
    rng = np.random.default_rng(1)
    positions, charges = rng.random((12, 3)) * 6, rng.normal(size=12)
    found = evaluate(Atoms("H12", positions=positions), charges, "pme", damping=damping)
    expected = direct_sum(positions, charges, damping is not None)
    assert float(found.energy) == pytest.approx(expected, rel=1e-12)


def test_damping_in_a_box_is_the_pair_difference() -> None:
    atoms, charges = ionic_box(24, seed=2)
    bare = evaluate(atoms, charges, "ewald", cutoff=7.0, tolerance=1e-10)
    damped = evaluate(atoms, charges, "ewald", cutoff=7.0, tolerance=1e-10, damping=(2.2, 18.7))
    images = np.array([[a, b, c] for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)])
    difference = 0.0
    for i in range(24):
        for j in range(24):
            for shift in images @ atoms.cell.array:
                r = float(np.linalg.norm(atoms.positions[j] + shift - atoms.positions[i]))
                if 0 < r < 4.6:
                    x = r / 2.2
                    g = x / (1 + math.log1p(math.exp(18.7 * (x - 1))) / 18.7)
                    difference += COULOMB_CONSTANT / 2 * charges[i] * charges[j] * (g - 1) / r
    assert float(damped.energy - bare.energy) == pytest.approx(difference, rel=1e-7)


# ---------------------------------------------------------------- derivatives


@pytest.mark.parametrize("damping", [None, (1.2, 18.7)])
@pytest.mark.parametrize("method", ["ewald", "pme"])
def test_forces_and_stress_are_the_gradient(
    method: str, damping: tuple[float, float] | None
) -> None:
    atoms, charges = ionic_box(20, seed=7)
    terms = {
        "q": GivenCharges(charges, response=True),
        # accurate enough that the bare end of the real-space sum cannot be seen
        "c": Coulomb(method, 6.0, 1e-12 if method == "ewald" else 1e-9, damping),
    }
    potential = HybridPotential(terms)
    batch = AtomsBatch.from_atoms(atoms)
    # The mesh and the pairs stay those of the reference while atoms move by 1e-4 Angstrom.
    neighbors = potential.neighbor_list(skin=1.0)
    found = potential(batch, neighbors)
    assert found.forces is not None
    assert found.stress is not None

    def energy(positions: torch.Tensor, cell: torch.Tensor) -> float:
        moved = batch.moved(positions, cell)
        return float(potential(moved, neighbors, forces=False, stress=False).energy)

    h = 1e-4
    scale = float(found.forces.abs().max())
    for atom, axis in ((0, 0), (3, 1), (11, 2), (19, 0)):
        step = torch.zeros_like(batch.positions)
        step[atom, axis] = h
        plus, minus = (energy(batch.positions + s * step, batch.cell) for s in (1, -1))
        numeric = -(plus - minus) / (2 * h)
        assert numeric == pytest.approx(float(found.forces[atom, axis]), abs=1e-6 * scale)
    volume = float(batch.volume)
    scale = float(found.stress.abs().max())
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[a, b] += h / 2
        strain[b, a] += h / 2
        plus, minus = (
            energy(batch.positions @ m, batch.cell @ m)
            for m in (torch.eye(3) + strain, torch.eye(3) - strain)
        )
        numeric = (plus - minus) / (2 * h * volume)
        assert numeric == pytest.approx(float(found.stress[0, a, b]), abs=1e-6 * scale)
    assert neighbors.n_builds == 1


@pytest.mark.parametrize("kind", [ReciprocalEwald, ReciprocalPME])
def test_second_derivatives(kind: type) -> None:
    atoms, charges = ionic_box(4, seed=1)
    batch = AtomsBatch.from_atoms(atoms)
    method = kind(0.5, 1e-3)
    plan = method.prepare(batch)

    def energy(positions: torch.Tensor, cell: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return 0.5 * (q * method.potential(batch.moved(positions, cell), q, plan)).sum()

    inputs = tuple(
        x.clone().requires_grad_() for x in (batch.positions, batch.cell, torch.tensor(charges))
    )
    assert torch.autograd.gradcheck(energy, inputs, atol=1e-7, rtol=1e-5)
    assert torch.autograd.gradgradcheck(energy, inputs, atol=1e-6, rtol=1e-5)

    def potential(positions: torch.Tensor, cell: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return method.potential(batch.moved(positions, cell), q, plan)

    assert torch.autograd.gradcheck(potential, inputs, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("damping", [None, (1.2, 18.7)])
def test_second_derivatives_of_the_real_space_part(damping: tuple[float, float] | None) -> None:
    atoms, charges = ionic_box(5, seed=1)
    batch = AtomsBatch.from_atoms(atoms)
    term = Coulomb("ewald", 4.0, 1e-4, damping)
    neighbors = HybridPotential({"q": GivenCharges(charges), "c": term}).neighbor_list()
    neighbors.update(batch)

    def energy(positions: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        moved = batch.moved(positions)
        pairs = neighbors.bind(moved).pairs(term.requests()[0])
        return (q * term._real_space(moved, q, pairs)).sum()

    inputs = (batch.positions.clone().requires_grad_(), torch.tensor(charges).requires_grad_())
    assert torch.autograd.gradcheck(energy, inputs)
    assert torch.autograd.gradgradcheck(energy, inputs)


@pytest.mark.parametrize("order", [4, 5, 6])
def test_splines_are_adjoint_and_differentiable(order: int) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = Grid(2, (7, 6, 8), order, torch.tensor([0, 0, 1]))
    u = (torch.rand(3, 3, generator=generator, dtype=torch.float64) * 20 - 10).requires_grad_()
    q = torch.randn(3, 1, generator=generator, dtype=torch.float64).requires_grad_()
    mesh = torch.randn(2, 7, 6, 8, generator=generator, dtype=torch.float64).requires_grad_()
    terms = ((0, 0, 0),)
    spread = SpreadCharges.apply(q, u, grid, terms)
    torch.testing.assert_close(spread.sum((1, 2, 3)), torch.stack([q[:2].sum(), q[2:].sum()]))
    inner = (spread * mesh).sum()
    torch.testing.assert_close(inner, (Interpolate.apply(mesh, u, grid, terms) * q).sum())
    assert torch.autograd.gradcheck(lambda q, u: SpreadCharges.apply(q, u, grid, terms), (q, u))

    def bilinear(q: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return (SpreadCharges.apply(q, u, grid, terms) * mesh.detach()).sum()

    assert torch.autograd.gradgradcheck(bilinear, (q, u))


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("damping", [None, (2.2, 18.7)])
@pytest.mark.parametrize("method", ["ewald", "pme"])
def test_batch_is_each_system_alone(method: str, damping: tuple[float, float] | None) -> None:
    rng = np.random.default_rng(4)
    boxes = [ionic_box(n, seed=n) for n in (8, 40, 24)]
    cubic = Atoms("H2", positions=[[0, 0, 0], [1, 1.5, 1]], cell=[4.0, 4.0, 12.0], pbc=True)
    one = Atoms("H", positions=[[0.1, 0.2, 0.3]])
    molecule = Atoms("H5", positions=rng.random((5, 3)) * 4)
    systems = [boxes[0], (one, np.array([0.7])), (molecule, rng.normal(size=5)), boxes[1]]
    systems += [(cubic, np.array([1.0, -0.4])), boxes[2]]
    structures, charges = [s for s, _ in systems], [q for _, q in systems]
    options = {"cutoff": 6.0, "tolerance": 1e-5, "damping": damping}
    together = evaluate(structures, np.concatenate(charges), method, response=True, **options)
    assert together.forces is not None
    assert together.stress is not None
    start = 0
    for index, (structure, q) in enumerate(systems):
        alone = evaluate(structure, q, method, response=True, **options)
        stop = start + len(structure)
        assert alone.forces is not None
        assert alone.stress is not None
        close = {"rtol": 1e-10, "atol": 1e-10}
        torch.testing.assert_close(together.energy[index], alone.energy[0], **close)
        torch.testing.assert_close(together.energies[start:stop], alone.energies, **close)
        torch.testing.assert_close(together.forces[start:stop], alone.forces, **close)
        torch.testing.assert_close(together.stress[index], alone.stress[0], **close)
        start = stop


@pytest.mark.parametrize("method", ["ewald", "pme"])
def test_systems_do_not_feel_each_other(method: str) -> None:
    systems = [ionic_box(8, 1), ionic_box(8, 2), (Atoms("H2", positions=np.eye(3)[:2]), [1, -1.0])]
    charges = np.concatenate([q for _, q in systems])
    potential = HybridPotential({"q": GivenCharges(charges), "c": Coulomb(method, 5.0, 1e-5)})
    batch = AtomsBatch.from_atoms([s for s, _ in systems])
    neighbors = potential.neighbor_list()
    neighbors.update(batch)
    positions = batch.positions.clone().requires_grad_()
    moved = batch.moved(positions)
    _, atomic = potential.evaluate_terms(moved, neighbors)
    for system, energy in enumerate(batch.system_sum(atomic["c"])):
        (gradient,) = torch.autograd.grad(energy, positions, retain_graph=True)
        assert float(gradient[batch.system != system].abs().max()) == 0.0
        assert float(gradient[batch.system == system].abs().max()) > 0.0


def test_gradient_of_one_atoms_energy() -> None:
    # Not proportional to the charges: the general path through the mesh.
    atoms, charges = ionic_box(10, seed=8)
    batch = AtomsBatch.from_atoms(atoms)
    gradients = []
    for method in ("ewald", "pme"):
        potential = HybridPotential({"q": GivenCharges(charges), "c": Coulomb(method, 6.0, 1e-9)})
        neighbors = potential.neighbor_list()
        neighbors.update(batch)
        positions = batch.positions.clone().requires_grad_()
        _, atomic = potential.evaluate_terms(batch.moved(positions), neighbors)
        gradients.append(torch.autograd.grad(atomic["c"][3], positions)[0])
    assert relative_rms(gradients[1], gradients[0]) < 1e-7


def test_an_atom_moved_by_lattice_vectors_changes_nothing() -> None:
    atoms, charges = ionic_box(12, seed=9)
    moved = atoms.copy()
    moved.positions[4] += 3 * atoms.cell[0] - 2 * atoms.cell[2]
    for method in ("ewald", "pme"):
        one, other = (evaluate(a, charges, method, cutoff=5.0) for a in (atoms, moved))
        torch.testing.assert_close(one.energies, other.energies, rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- errors and configuration


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "fmm"}, "'ewald' or 'pme', got 'fmm'"),
        ({"tolerance": 0.5}, "tolerance of 1e-14 to 1e-2, got 0.5"),
        ({"cutoff": 3.0, "damping": (2.2, 18.7)}, "cutoff of at least 4.4 A, got 3.0"),
        ({"damping": (2.2, 3.0)}, "cutoff of at least 16.59"),
        ({"damping": (-2.2, 18.7)}, "positive damping"),
    ],
)
def test_errors_say_what_was_expected(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Coulomb(**options)  # type: ignore[arg-type]


def test_config_makes_the_same_term() -> None:
    term = Coulomb("ewald", 7.5, 1e-5, (2.0, 15.0))
    again = Coulomb(**term.config())
    assert again.config() == term.config()
    assert "charges" in FIELDS
    assert again.needs == ("charges",)


@pytest.mark.parametrize("method", ["ewald", "pme"])
def test_a_huge_empty_box_is_refused_before_memory_runs_out(method: str) -> None:
    atoms = Atoms("Li", cell=[3000.0, 3000.0, 3000.0], pbc=True)
    term = Coulomb(method, cutoff=6.0, tolerance=1e-6)
    with pytest.raises(StructureError, match=r"3000 x 3000 x 3000 A"):
        term.prepare(AtomsBatch.from_atoms(atoms))
