"""The evaluator: explicit requests, domain decomposition, molecular stress, parameter gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from core_models import equilibrated, hybrid, mixed_systems, molecular, molecular_box
from decomposition import Exchange, ThreadHalo, divide, in_threads
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.checkpoint import load_model
from hff_ase.derivatives import masses_of
from hff_ase.dynamics.build import build_box
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.models import model_path
from hff_ase.parameters import declared, matching, parameter_names
from hff_ase.passes import Evaluation, Wanted
from hff_ase.potential import HybridPotential
from hff_ase.terms.coulomb import Coulomb
from hff_ase.testing import ionic_box
from hff_ase.topology import perceive


def shipped(name: str) -> HybridPotential:
    return load_model(model_path(name), torch.float64)[0]


def dense_box(n: int = 40, seed: int = 0) -> Atoms:
    """A triclinic box of random atoms at least 1.1 A apart."""
    rng = np.random.default_rng(seed)
    cell = np.array([[8.0, 0.0, 0.0], [1.0, 7.5, 0.0], [-0.7, 0.4, 9.0]])
    places: list[np.ndarray] = []
    while len(places) < n:
        x = rng.uniform(size=3)
        apart = np.array([x - y for y in places]).reshape(-1, 3)
        apart -= np.round(apart)
        if not len(apart) or np.linalg.norm(apart @ cell, axis=1).min() > 1.1:
            places.append(x)
    symbols = rng.choice(["H", "C", "O", "Li", "F", "P"], n, p=[0.45, 0.25, 0.2, 0.04, 0.04, 0.02])
    return Atoms(list(symbols), np.array(places) @ cell, cell=cell, pbc=True)


def put_together(
    results: list[Evaluation], origins: list[Tensor], n: int
) -> tuple[float, Tensor, Tensor]:
    """Energy, forces and stress of the whole from those of its parts."""
    forces = torch.zeros((n, 3), dtype=torch.float64)
    for result, origin in zip(results, origins, strict=True):
        assert result.forces is not None
        forces = forces.index_add(0, origin, result.forces)
    stress = torch.stack([r.stress for r in results if r.stress is not None]).sum(0)
    return sum(float(r.energy) for r in results), forces, stress


# of the shipped models with a network
WITHOUT_CHARGES = {
    "ecemc-dft": ["short_range"],
    "electrolyte": ["short_range", "dispersion", "wall"],
    "electrolyte-e3": ["short_range", "dispersion", "wall"],
    "electrolyte-inner": ["short_range", "wall"],
}


@pytest.mark.parametrize("name", list(WITHOUT_CHARGES))
def test_owned_energies_of_two_halves_add_up(name: str) -> None:
    """Halves with ghosts as deep as the potential reaches give what the whole gives."""
    potential, parts = shipped(name), WITHOUT_CHARGES[name]
    elements = set(potential.elements or ())
    atoms = dense_box(24)
    atoms.symbols = [s if s in elements else "H" for s in atoms.symbols]
    whole = Evaluator(potential).evaluate(AtomsBatch.from_atoms(atoms), parts=parts)
    kept = potential.subset(parts)
    domains = divide(atoms, 2, kept.reach, kept.cutoff)
    results = [
        Evaluator(kept).evaluate(d.batch, pairs=d.pairs, reach=d.reach, owned=d.owned)
        for d in domains
    ]
    energy, forces, stress = put_together(results, [d.origin for d in domains], len(atoms))
    assert energy == pytest.approx(float(whole.energy), abs=1e-10)
    torch.testing.assert_close(forces, whole.forces, rtol=0, atol=1e-10)
    torch.testing.assert_close(stress, whole.stress, rtol=0, atol=1e-10)


def test_owned_energies_of_whole_molecules_add_up() -> None:
    """The polarizable model: its bonded terms and all its pairs, with molecules kept whole."""
    potential = shipped("ec-dmc-lipf6-pol")
    terms = {n: t for n, t in potential.named_terms() if n != "induction"}
    for name in ("exp6", "charge_transfer"):  # the tail is no sum over pairs
        terms[name] = type(terms[name])(**{**terms[name].config(), "tail": False})
    kept = potential.with_terms(terms)
    parts = ["bonded", "coulomb.real", "excluded", "exp6", "charge_transfer"]
    atoms = build_box("1 M LiPF6 in EC:DMC 1:1 mol/mol", n_atoms=98, seed=0)
    batch = AtomsBatch.from_atoms(atoms)
    whole = Evaluator(kept).evaluate(batch, parts=parts)
    atoms.set_initial_charges(whole.fields["charges"].detach().numpy())
    bonds = perceive(atoms).bonds
    domains = divide(atoms, 2, kept.cutoff, kept.cutoff, bonds)
    results = [
        Evaluator(kept).evaluate(d.batch, pairs=d.pairs, reach=d.reach, owned=d.owned, parts=parts)
        for d in domains
    ]
    energy, forces, stress = put_together(results, [d.origin for d in domains], len(atoms))
    assert energy == pytest.approx(float(whole.energy), abs=1e-10)
    torch.testing.assert_close(forces, whole.forces, rtol=0, atol=1e-10)
    torch.testing.assert_close(stress, whole.stress, rtol=0, atol=1e-10)
    d = domains[0]
    wanted = {"pairs": d.pairs, "reach": d.reach, "owned": d.owned}
    with pytest.raises(ConfigError, match=r"'exp6' \(exp6\): its tail sums over all atoms"):
        Evaluator(potential).evaluate(d.batch, parts=["exp6"], **wanted)
    with pytest.raises(ConfigError, match=r"'induction'.*solved for the whole system"):
        Evaluator(potential.subset(["charges", "induction"])).evaluate(d.batch, **wanted)
    unbonded = AtomsBatch.from_atoms(atoms)
    with pytest.raises(ConfigError, match=r"'bonded'.*whole, with their bonds given"):
        Evaluator(kept.subset(["bonded"])).evaluate(unbonded, owned=torch.ones(98) > 0)


@pytest.mark.parametrize("n_domains", [2, 3])
@pytest.mark.parametrize("model", ["electrolyte", "e3", "small"])
def test_a_halo_makes_the_whole_model_of_parts(model: str, n_domains: int) -> None:
    """Charges and the long range included, with ghosts within one cutoff."""
    if model == "small":
        potential = hybrid("pme", 1e-6).set_dtype(torch.float64)
    else:
        potential = shipped({"e3": "electrolyte-e3"}.get(model, model))
    atoms = dense_box(30, seed=1)
    atoms.info["charge"] = 1.0
    whole = Evaluator(potential).evaluate(AtomsBatch.from_atoms(atoms))
    domains = divide(atoms, n_domains, potential.cutoff, potential.cutoff)
    exchange = Exchange(domains)
    coulomb = potential.terms["coulomb"]
    assert isinstance(coulomb, Coulomb)

    def work(rank: int) -> Evaluation:
        domain, halo = domains[rank], ThreadHalo(exchange, rank, coulomb)
        return Evaluator(potential).evaluate(
            domain.batch, pairs=domain.pairs, reach=domain.reach, owned=domain.owned, halo=halo
        )

    results = in_threads(work, n_domains)
    energy, forces, stress = put_together(results, [d.origin for d in domains], len(atoms))
    assert energy == pytest.approx(float(whole.energy), abs=1e-9)
    torch.testing.assert_close(forces, whole.forces, rtol=0, atol=1e-9)
    torch.testing.assert_close(stress, whole.stress, rtol=0, atol=1e-10)
    for domain, result in zip(domains, results, strict=True):
        expected = whole.fields["charges"][domain.origin]
        torch.testing.assert_close(result.fields["charges"], expected, rtol=0, atol=1e-12)


def test_pairs_of_a_host_give_what_a_search_gives() -> None:
    potential = hybrid("ewald").set_dtype(torch.float64)
    batch = AtomsBatch.from_atoms(dense_box(20))
    evaluator = Evaluator(potential, skin=0.5)
    expected = evaluator.evaluate(batch)
    reach = potential.cutoff + 0.5
    view = evaluator.neighbors.view(potential.terms["dispersion"].pair_request)  # type: ignore[union-attr]
    found = Evaluator(potential).evaluate(batch, pairs=view, reach=reach)
    torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=1e-11)
    with pytest.raises(ConfigError, match=r"pairs up to at least 7 A, got them up to 5 A"):
        Evaluator(potential).evaluate(batch, pairs=view, reach=5.0)
    with pytest.raises(ConfigError, match="reach of given pairs"):
        Evaluator(potential).evaluate(batch, pairs=view)


def test_what_needs_the_whole_system_refuses_a_part_by_name() -> None:
    batch = AtomsBatch.from_atoms(ionic_box())
    owned = torch.arange(batch.n_atoms) < 2
    with pytest.raises(ConfigError, match=r"'charges' \(predicted_charges\).*give a halo"):
        Evaluator(hybrid()).evaluate(batch, owned=owned)
    with pytest.raises(ConfigError, match=r"'charges' \(qeq\): its charges are solved"):
        Evaluator(equilibrated()).evaluate(batch, owned=owned)
    halo = ThreadHalo(Exchange(divide(ionic_box(), 1, 5.0, 5.0)), 0, None)
    with pytest.raises(ConfigError, match="owned atoms and pairs of the host beside a halo"):
        Evaluator(hybrid()).evaluate(batch, halo=halo)


@pytest.mark.parametrize("term", ["dispersion", "zbl"])
def test_a_kernel_refuses_weights_within_a_system(term: str) -> None:
    """Ready-made derivatives are those of whole systems: a masked sum would be wrong unnoticed."""
    potential = hybrid().subset([term])
    batch = AtomsBatch.from_atoms([ionic_box(), ionic_box(seed=1)])
    neighbors = potential.neighbor_list()
    positions = batch.positions.clone().requires_grad_()
    arranged = neighbors.follow(batch).moved(positions)
    _, atomic = potential.evaluate_terms(arranged, neighbors, Wanted())
    energies = atomic[term]
    by_system = (energies * torch.tensor([2.0, 3.0])[batch.system]).sum()
    by_system.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="whole systems"):
        energies[:3].sum().backward()


def test_fused_networks_take_owned_atoms() -> None:
    """A network's kernels give the gradient of any sum of atomic energies."""
    atoms = dense_box(20)
    potential = hybrid().subset(["short_range", "dispersion", "zbl"])
    batch = AtomsBatch.from_atoms(atoms)
    owned = torch.arange(batch.n_atoms) % 3 == 0
    fused = Evaluator(potential).evaluate(batch, owned=owned)
    plain = Evaluator(potential.use_kernels("reference")).evaluate(batch, owned=owned)
    assert fused.forces is not None
    torch.testing.assert_close(fused.forces, plain.forces, rtol=1e-4, atol=1e-4)
    assert float(fused.forces[~owned].abs().max()) > 1e-3  # on ghosts as well
    assert float(fused.energies[~owned].abs().max()) == 0.0


def test_parts_add_up_to_the_whole() -> None:
    potential = hybrid("ewald").set_dtype(torch.float64)
    batch = AtomsBatch.from_atoms(mixed_systems(5))
    evaluator = Evaluator(potential, trajectory=False)
    whole = evaluator.evaluate(batch)
    parts = ["short_range", "charges", "coulomb.real", "coulomb.reciprocal", "dispersion", "zbl"]
    assert set(potential.parts()) == {*parts, "coulomb"}
    alone = [evaluator.evaluate(batch, parts=[part]) for part in parts]
    torch.testing.assert_close(sum(r.energy for r in alone), whole.energy, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(sum(r.forces for r in alone), whole.forces, rtol=0, atol=1e-9)
    torch.testing.assert_close(sum(r.stress for r in alone), whole.stress, rtol=0, atol=1e-9)
    coulomb = evaluator.evaluate(batch, parts=["coulomb"])
    assert list(coulomb.energy_terms) == ["coulomb"]
    torch.testing.assert_close(coulomb.energy, alone[2].energy + alone[3].energy)
    with pytest.raises(ConfigError, match=r"parts among.*'mesh'"):
        evaluator.evaluate(batch, parts=["mesh"])
    with pytest.raises(ConfigError, match=r"derivatives among.*'strain'"):
        evaluator.evaluate(batch, derivatives=["strain"])


def molecules_in_a_box(seed: int = 0) -> Atoms:
    """Molecules of three, some broken over the faces of the cell, in a triclinic box."""
    rng = np.random.default_rng(seed)
    atoms = dense_box(12, seed)
    offsets = rng.normal(scale=0.8, size=(12, 2, 3))
    positions = np.concatenate([atoms.positions[:, None], atoms.positions[:, None] + offsets], 1)
    box = Atoms("COH" * 12, positions.reshape(-1, 3), cell=2.0 * np.asarray(atoms.cell), pbc=True)
    box.positions += np.repeat(atoms.positions, 3, axis=0)
    box.set_array("molecule", np.repeat(np.arange(12), 3))
    box.positions += rng.integers(-1, 2, size=(36, 3)) @ np.asarray(box.cell)
    return box


def scaled_by_molecules(batch: AtomsBatch, strain: Tensor) -> AtomsBatch:
    """Centres of mass and cell strained, molecules moved as they are; whole molecules only."""
    assert batch.molecule is not None
    positions = batch.positions.clone()
    for molecule in range(batch.n_molecules):
        mine = batch.molecule == molecule
        mass = masses_of(batch)[mine][:, None]
        centre = (mass * positions[mine]).sum(0) / mass.sum()
        system = int(batch.system[mine][0])
        if bool(batch.periodic[system]):
            positions[mine] = positions[mine] + centre @ strain
    return batch.moved(positions, batch.cell + batch.cell @ strain)


@pytest.mark.parametrize("heavy", [False, True])
def test_molecular_stress_is_the_derivative_by_centres(heavy: bool) -> None:
    """Molecules cut by the cell's faces have the stress of whole ones."""
    potential = hybrid("ewald", 1e-10).set_dtype(torch.float64)
    broken = molecules_in_a_box()
    whole = broken.copy()
    for k in range(0, 36, 3):
        apart = whole.get_distances(k, [k + 1, k + 2], mic=True, vector=True)
        whole.positions[k + 1 : k + 3] = whole.positions[k] + apart
    for box in (broken, whole) if heavy else ():
        box.set_masses(np.where(box.numbers == 1, 3.0, box.get_masses()))
    evaluator = Evaluator(potential, trajectory=False)
    wanted = ["positions", "cell", "molecules"]
    other = molecules_in_a_box(1)
    if heavy:
        other.set_masses(np.where(other.numbers == 1, 3.0, other.get_masses()))
    batch = AtomsBatch.from_atoms([broken, other])
    stress = evaluator.evaluate(batch, derivatives=wanted).molecular_stress
    assert stress is not None
    alone = AtomsBatch.from_atoms(whole)
    found = evaluator.evaluate(alone, derivatives=wanted)
    torch.testing.assert_close(stress[:1], found.molecular_stress, rtol=0, atol=1e-10)
    assert found.stress is not None
    assert float((found.stress - stress[0]).abs().max()) > 1e-3  # bonds have a part in the other
    step = 1e-5
    for a in range(3):
        for b in range(3):
            strain = torch.zeros((3, 3), dtype=torch.float64)
            strain[a, b] += 0.5 * step
            strain[b, a] += 0.5 * step
            ends = [
                float(evaluator.evaluate(scaled_by_molecules(alone, sign * strain)).energy)
                for sign in (1.0, -1.0)
            ]
            slope = (ends[0] - ends[1]) / (2.0 * step) / whole.get_volume()
            assert float(stress[0, a, b]) == pytest.approx(slope, abs=1e-6)


def test_molecular_stress_without_molecules_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch with molecules"):
        Evaluator(hybrid()).evaluate(AtomsBatch.from_atoms(ionic_box()), derivatives=["molecules"])


def last_layers(potential: HybridPotential) -> list[str]:
    """Of the heads that give energies and, where a network does, charges."""
    found = []
    for head in ("short_range.energy.", "charges.charge."):
        names = [name for name in parameter_names(potential) if name.startswith(head)]
        found += [f"{names[-1].rsplit('.', 1)[0]}.*"] if names else []
    return found


@pytest.mark.parametrize("name", ["electrolyte", "electrolyte-e3", "ecemc-dft"])
def test_parameter_gradients_are_those_of_each_frame(name: str) -> None:
    """Scales of all terms and the last layer of each head, against finite differences."""
    potential = shipped(name)
    elements = set(potential.elements or ())
    frames = [dense_box(12), dense_box(14, seed=2), dense_box(10, seed=3)[:4]]
    for atoms in frames:
        atoms.symbols = [s if s in elements else "H" for s in atoms.symbols]
    batch = AtomsBatch.from_atoms(frames)
    evaluator = Evaluator(potential, trajectory=False)
    patterns = ["*.scale", *last_layers(potential)]
    names = matching(potential, patterns)
    found = evaluator.evaluate(batch, derivatives=["parameters"], parameters=patterns)
    gradients = found.parameter_gradients
    assert list(gradients) == names

    for term, _ in potential.named_terms():
        ends = []
        for sign in (1.0, -1.0):
            potential.scales = {term: 1.0 + sign * 1e-4}
            ends.append(evaluator.evaluate(batch).energy)
        potential.scales = {}
        slope = (ends[0] - ends[1]) / 2e-4
        torch.testing.assert_close(gradients[f"{term}.scale"], slope, rtol=1e-6, atol=1e-7)

    generator = torch.Generator().manual_seed(0)
    tensors = dict(potential.terms.named_parameters())
    for weight in (n for n in names if not n.endswith(".scale")):
        parameter, gradient = tensors[weight], gradients[weight]
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        ends = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                parameter += sign * 1e-4 * direction
                ends.append(evaluator.evaluate(batch).energy)
                parameter -= sign * 1e-4 * direction
        slope = (ends[0] - ends[1]) / 2e-4
        along = (gradient * direction).flatten(1).sum(1)
        torch.testing.assert_close(along, slope, rtol=1e-6, atol=1e-7)


def test_fused_kernels_give_the_same_parameter_gradients() -> None:
    atoms = [dense_box(16), dense_box(12, seed=4)]
    for name in ("electrolyte", "electrolyte-e3"):
        fast = load_model(model_path(name))[0]
        wanted = {"derivatives": ["parameters"], "parameters": ["short_range.*"]}
        batch = AtomsBatch.from_atoms(atoms)
        found = Evaluator(fast, trajectory=False).evaluate(batch, **wanted)  # type: ignore[arg-type]
        exact = Evaluator(shipped(name), trajectory=False).evaluate(batch, **wanted)  # type: ignore[arg-type]
        for key, value in exact.parameter_gradients.items():
            scale = float(value.abs().max()) + 1e-6
            error = float((found.parameter_gradients[key] - value).abs().max())
            assert error < 2e-3 * scale, (name, key)


def test_parameters_are_left_as_they_were() -> None:
    potential = hybrid()
    potential.terms["charges"].requires_grad_(True)
    before = {name: p.requires_grad for name, p in potential.named_parameters()}
    evaluator = Evaluator(potential)
    batch = AtomsBatch.from_atoms(ionic_box())
    evaluator.evaluate(batch, derivatives=["parameters"], parameters=["short_range.energy.*"])
    assert {name: p.requires_grad for name, p in potential.named_parameters()} == before
    assert all(p.grad is None for p in potential.parameters())
    with pytest.raises(ConfigError, match=r"such as 'charges\.scale'.*got 'spam\.\*'"):
        evaluator.evaluate(batch, derivatives=["parameters"], parameters=["spam.*"])


def test_scales_are_declared_and_count() -> None:
    potential = hybrid()
    assert declared(potential)["dispersion.scale"].transform == "log"
    batch = AtomsBatch.from_atoms([ionic_box(), ionic_box(seed=3)])
    plain = Evaluator(potential).evaluate(batch)
    potential.scales = {"dispersion": 1.5, "coulomb": 0.5}
    for kernels in ("auto", "reference"):
        scaled = Evaluator(potential.use_kernels(kernels)).evaluate(batch)
        expected = plain.energy + 0.5 * plain.energy_terms["dispersion"]
        expected = expected - 0.5 * plain.energy_terms["coulomb"]
        torch.testing.assert_close(scaled.energy, expected, rtol=1e-6, atol=1e-5)
    fast = Evaluator(potential.use_kernels("auto")).evaluate(batch)
    torch.testing.assert_close(fast.forces, scaled.forces, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("build", [molecular, equilibrated], ids=["molecular", "qeq and d3"])
def test_every_parameter_has_the_gradient_of_the_reference(
    build: Callable[[], HybridPotential],
) -> None:
    """Also those that fused kernels take for constants, and charges equilibrated step by step."""
    atoms = molecular_box() if build is molecular else ionic_box()
    batch = AtomsBatch.from_atoms(atoms)
    wanted = {"derivatives": ["parameters"], "parameters": ["*"]}
    exact = Evaluator(build().set_dtype(torch.float64), trajectory=False)
    expected = exact.evaluate(batch, **wanted).parameter_gradients  # type: ignore[arg-type]
    evaluator = Evaluator(build())
    for _ in range(2):  # the second time with whatever the first left behind
        found = evaluator.evaluate(batch, **wanted).parameter_gradients  # type: ignore[arg-type]
        assert list(found) == list(expected)
        for name, value in expected.items():
            scale = float(value.abs().max())
            error = float((found[name] - value).abs().max())
            assert error < 2e-3 * scale + 1e-6, (name, error, scale)


def test_what_cannot_be_asked_is_refused() -> None:
    batch = AtomsBatch.from_atoms(ionic_box())
    potential = hybrid()
    evaluator = Evaluator(potential)
    with pytest.raises(ConfigError, match="parts"):
        evaluator.evaluate(batch, parts=[])
    term = potential.named_terms()[0][0]
    potential.scales = {term: 0.0}
    with pytest.raises(ConfigError, match="not 0 for its gradient"):
        evaluator.evaluate(batch, derivatives=["parameters"], parameters=[f"{term}.scale"])
