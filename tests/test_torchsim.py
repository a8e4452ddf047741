"""The force field behind TorchSim's interface: the same numbers, whatever TorchSim makes of it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from conftest import CHANNELS, salt_box, water

from hff_ase.calculators import HybridFF
from hff_ase.errors import ConfigError, StructureError
from hff_ase.potential import HybridPotential
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.terms.repulsion import ZBL
from hff_ase.terms.short_range import ShortRange

ts = pytest.importorskip("torch_sim", reason="torch-sim-atomistic drives what is tested here")

from torch_sim.autobatching import BinningAutoBatcher  # noqa: E402
from torch_sim.models.interface import validate_model_outputs  # noqa: E402

from hff_ase.dynamics.torchsim import HybridTorchSimModel  # noqa: E402

CPU, F64 = torch.device("cpu"), torch.float64
MODERN = hasattr(ts, "Integrator")  # 0.4 and later
Model = HybridTorchSimModel


@pytest.fixture
def model(small_model_path: Path) -> Model:
    return Model.load(small_model_path, dtype=F64, precision="float64")


def state_of(*structures: Atoms) -> Any:
    return ts.io.atoms_to_state(list(structures), CPU, F64)


def integrator(name: str) -> Any:
    return getattr(ts.Integrator, name) if MODERN else getattr(ts.integrators, name)


def boxes() -> list[Atoms]:
    return [salt_box(seed) for seed in range(3)]


def check_same(
    out: dict[str, torch.Tensor], expected: list[dict[str, Any]], atol: float = 1e-10
) -> None:
    """Results equal those of the calculator, system by system."""
    first = 0
    for k, results in enumerate(expected):
        part = slice(first, first := first + len(results["forces"]))
        xx, yy, zz, yz, xz, xy = results.get("stress", np.zeros(6))
        for got, wanted in (
            (out["energy"][k], results["energy"]),
            (out["forces"][part], results["forces"]),
            (out["partial_charges"][part], results["charges"]),
            (out["stress"][k], [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]),
        ):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=atol)
    assert first == len(out["forces"])


def test_results_are_those_of_the_calculator(model: Model, small_calculator: HybridFF) -> None:
    # the boxes are triclinic: a cell taken as it is, columns for rows, would not agree
    out = model(state_of(*boxes()))
    assert sorted(out) == ["energy", "forces", "partial_charges", "stress"]
    assert all(value.dtype == F64 and not value.requires_grad for value in out.values())
    check_same(out, small_calculator.evaluate(boxes()))


def test_molecules(model: Model, small_calculator: HybridFF) -> None:
    molecules = [water(), molecule("CO"), molecule("CH4")]
    check_same(model(state_of(*molecules)), small_calculator.evaluate(molecules))


def test_a_zero_cell_in_a_periodic_state_is_a_molecule(
    model: Model, small_calculator: HybridFF
) -> None:
    alone = water()
    alone.pbc = True
    mixed = [salt_box(), alone, salt_box(1)]
    check_same(
        model(state_of(*mixed)), small_calculator.evaluate([salt_box(), water(), salt_box(1)])
    )


def test_a_cell_that_appears_between_calls_is_seen(
    model: Model, small_calculator: HybridFF
) -> None:
    """Same atoms and the same flags as before: a molecule, and then a crystal of it."""
    alone, box = water(), water()
    alone.pbc = box.pbc = True
    box.cell = np.diag([5.0, 5.2, 5.4])
    check_same(model(state_of(alone)), small_calculator.evaluate([water()]))
    check_same(model(state_of(box)), small_calculator.evaluate([box]))


def test_one_atom_keeps_its_shapes(model: Model) -> None:
    out = model(state_of(Atoms("Li", cell=[4.0, 4.0, 4.0], pbc=True)))
    assert out["energy"].shape == (1,)
    assert out["forces"].shape == (1, 3)
    assert out["stress"].shape == (1, 3, 3)


def test_a_dict_is_a_state(model: Model) -> None:
    state = state_of(salt_box())
    names = ("positions", "cell", "atomic_numbers")
    out = model({name: getattr(state, name) for name in names})
    for name, value in model(state).items():
        torch.testing.assert_close(out[name], value, rtol=0, atol=1e-12)


def test_state_is_not_changed(model: Model) -> None:
    state = state_of(*boxes())
    before = state.clone()
    model(state)
    model(state)
    for name in ("positions", "cell", "atomic_numbers", "system_idx", "masses"):
        assert torch.equal(getattr(state, name), getattr(before, name))
        assert not getattr(state, name).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_torchsim_finds_the_outputs_valid(dtype: torch.dtype) -> None:
    # its structures are of Si, Mg, Fe and benzene
    elements = ("H", "C", "Mg", "Si", "Fe")
    options = {"channels": CHANNELS, "heads": 4, "layers": 2, "n_radial": 8, "cutoff": 4.0}
    torch.manual_seed(0)
    terms = {
        "short_range": ShortRange(elements, "get", options, hidden=(16,)),
        "charges": PredictedCharges(elements, CHANNELS, hidden=(16,)),
        "coulomb": Coulomb("ewald", 5.0, 1e-6, (2.2, 18.7)),
        "repulsion": ZBL(scale=0.9),
    }
    potential = HybridPotential(terms, elements).requires_grad_(False).eval()
    name = "float32" if dtype == torch.float32 else "float64"
    validate_model_outputs(Model(HybridFF(potential, dtype=name), dtype), CPU, dtype)


def test_only_what_is_asked_for(model: Model) -> None:
    model.compute_stress = False
    assert sorted(model(state_of(salt_box()))) == ["energy", "forces", "partial_charges"]
    model.compute_forces = False
    assert sorted(model(state_of(salt_box()))) == ["energy", "partial_charges"]


def test_neighbours_are_kept_while_little_moves(model: Model, small_calculator: HybridFF) -> None:
    structures = boxes()
    state = state_of(*structures)
    model(state)
    rng = np.random.default_rng(0)
    for _ in range(3):
        for atoms in structures:
            atoms.positions += rng.uniform(-0.02, 0.02, (len(atoms), 3))
        state.positions.copy_(state_of(*structures).positions)  # in place, as integrators do
        check_same(model(state), small_calculator.evaluate(structures))
    for atoms in structures:
        atoms.set_cell(atoms.cell.array * 1.001, scale_atoms=True)
    state.positions.copy_(state_of(*structures).positions)
    state.cell.copy_(state_of(*structures).cell)
    # the Ewald sum keeps its wave vectors too: the same to its own tolerance only
    check_same(model(state), small_calculator.evaluate(structures), atol=1e-6)
    assert model.n_searches == 1
    structures[1].positions[2] += [0.0, 0.0, 1.1]  # farther than half the skin
    state.positions.copy_(state_of(*structures).positions)
    check_same(model(state), small_calculator.evaluate(structures))
    assert model.n_searches == 2


def test_atoms_folded_back_into_the_cell_have_not_moved(
    model: Model, small_calculator: HybridFF
) -> None:
    state = state_of(*boxes())
    before = model(state)
    rng = np.random.default_rng(1)
    for _ in range(3):
        crossed = torch.tensor(rng.integers(-1, 2, (len(state.positions), 3)), dtype=F64)
        rows = state.cell.mT[state.system_idx]
        state.positions.add_((crossed[:, None] @ rows)[:, 0])
        for name, value in model(state).items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=1e-10)
    assert model.n_searches == 1


def test_states_put_together_anew(model: Model, small_calculator: HybridFF) -> None:
    """What autobatchers do: other systems in other places, sometimes of the same sizes."""
    a, b, c = boxes()
    swapped = a.copy()
    swapped.numbers[[2, 7]] = swapped.numbers[[7, 2]]
    for structures in ([a, b, c], [b, c], [c, b], [a], [swapped], [a, b, c], [a[:4], a[4:]], [a]):
        # the two halves have all positions and numbers of the whole: only system_idx differs
        state = state_of(*structures)
        check_same(model(state), small_calculator.evaluate(structures))
    state = ts.concatenate_states([state_of(a), state_of(c)])
    check_same(model(state[[1]]), small_calculator.evaluate([c]))


def test_total_charge_of_a_state(model: Model, small_calculator: HybridFF) -> None:
    structures = [water(), water()]
    structures[1].info["charge"] = 1.0
    state = state_of(*structures)
    names = ("positions", "cell", "atomic_numbers", "system_idx", "pbc")
    parts = {name: getattr(state, name) for name in names}
    neutral = model(parts)
    out = model(parts | {"charge": torch.tensor([0.0, 1.0], dtype=F64)})
    check_same(out, small_calculator.evaluate(structures))
    assert abs(float(out["energy"][1] - neutral["energy"][1])) > 0.01
    if MODERN:  # a state that knows its charges by itself
        state = ts.io.atoms_to_state(
            structures[1:], CPU, F64, system_extras_map={"charge": "charge"}
        )
        check_same(model(state), small_calculator.evaluate(structures[1:]))


def test_refusals(model: Model) -> None:
    box = state_of(salt_box())
    with pytest.raises(ConfigError, match=r"expected a state on cpu in torch\.float64, got .*32"):
        model(box.clone().to(dtype=torch.float32))
    with pytest.raises(StructureError, match="model knows H Li C O F P; structure holds Na"):
        model(state_of(Atoms("Na", cell=[4.0] * 3, pbc=True)))
    with pytest.raises(StructureError, match=r"right-handed cell.*\(system 1\)"):
        model(state_of(salt_box(), Atoms("Li", cell=[[0, 4, 0], [4, 0, 0], [0, 0, 4]], pbc=True)))
    names = ("positions", "cell", "atomic_numbers", "system_idx")
    parts = {name: getattr(box, name) for name in names}
    with pytest.raises(StructureError, match="all three directions or in none, got pbc="):
        model(parts | {"pbc": torch.tensor([True, True, False])})
    with pytest.raises(StructureError, match="charge for each of 1 systems"):
        model(parts | {"charge": torch.zeros(2)})
    with pytest.raises(ConfigError, match=r"expected dtype torch\.float32 or torch\.float64"):
        Model(HybridFF(model.potential), torch.float16)


def test_without_torchsim_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_sim.models.interface", None)
    monkeypatch.delitem(sys.modules, "hff_ase.dynamics.torchsim")
    with pytest.raises(ConfigError, match=r"pip install 'hff-ase\[torchsim\]'"):
        importlib.import_module("hff_ase.dynamics.torchsim")


def test_goes_on_after_a_broken_state(model: Model, small_calculator: HybridFF) -> None:
    state = state_of(salt_box())
    model(state)
    broken = state.clone()
    broken.positions[1] = broken.positions[0] + 0.05
    with pytest.raises(StructureError, match=r"at least 0\.2 A apart, got atoms 0 and 1"):
        model(broken)
    broken.positions[1] = float("nan")
    with pytest.raises(StructureError, match="finite"):
        model(broken)
    check_same(model(state), small_calculator.evaluate([salt_box()]))


def test_out_of_memory_stays_torchs_error(model: Model) -> None:
    """Autobatchers find their limit by it."""

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    model.potential.named_terms()[0][1].register_forward_pre_hook(full)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        model(state_of(salt_box()))
    assert model.n_searches == 0


def run(model: Model, name: str, structures: list[Atoms], **options: Any) -> Any:
    """Final state of a short run; what follows the seed is the same in every release."""
    torch.manual_seed(1)
    return ts.integrate(
        system=state_of(*structures), model=model, integrator=integrator(name), **options
    )


def total_energy(state: Any) -> torch.Tensor:
    kinetic = 0.5 * (state.momenta**2).sum(1) / state.masses
    return state.energy.index_add(0, state.system_idx, kinetic)


@pytest.fixture
def gas() -> list[Atoms]:
    """Molecules far apart in small boxes: random weights do little harm there."""
    rng = np.random.default_rng(3)
    structures = []
    for size in (7.0, 7.5, 8.0):
        atoms = water()
        atoms.set_cell(np.eye(3) * size + rng.uniform(-0.3, 0.3, (3, 3)))
        atoms.pbc = True
        structures.append(atoms)
    return structures


def test_energy_is_conserved(model: Model, gas: list[Atoms]) -> None:
    """Velocity Verlet: what the total energy strays by falls with the square of the time step."""
    strays = []
    for fs in (0.4, 0.2):
        model.reset()
        torch.manual_seed(0)
        options = {"temperature": 200.0, "timestep": fs * 1e-3}
        start = run(model, "nve", gas, n_steps=1, **options)
        end = run(model, "nve", gas, n_steps=round(8 / fs), **options)
        assert model.n_searches < 0.5 * 8 / fs
        strays.append(float((total_energy(end) - total_energy(start)).abs().max()))
    assert strays[0] < 0.02
    assert strays[1] < 0.4 * strays[0]


def test_an_integrator_holds_our_forces(model: Model, gas: list[Atoms]) -> None:
    options = {"n_steps": 10, "temperature": 300.0, "timestep": 0.0005}
    state = run(model, "nvt_langevin", gas, **options)
    atoms = state.to_atoms()
    expected = HybridFF(model.potential, dtype="float64").evaluate(atoms)
    forces = np.concatenate([results["forces"] for results in expected])
    np.testing.assert_allclose(state.forces, forces, rtol=0, atol=1e-9)
    if MODERN:
        charges = np.concatenate([results["charges"] for results in expected])
        np.testing.assert_allclose(state.partial_charges, charges, rtol=0, atol=1e-9)


def test_a_temperature_for_each_replica(model: Model, gas: list[Atoms]) -> None:
    cold_and_hot = [[1.0, 400.0, 1.0]] * 4
    state = run(model, "nvt_langevin", gas, n_steps=4, temperature=cold_and_hot, timestep=1e-5)
    kinetic = total_energy(state) - state.energy
    assert kinetic[1] > 10 * max(kinetic[0], kinetic[2])


def test_autobatcher(model: Model, gas: list[Atoms]) -> None:
    """Batches of two and one give what one batch of three gives."""
    assert model.memory_scales_with == ("n_edges" if MODERN else "n_atoms_x_density")
    assert model.cutoff == 4.0
    scale = {"memory_scales_with": model.memory_scales_with}
    scale |= {"cutoff": model.cutoff} if MODERN else {}
    batcher = BinningAutoBatcher(model, max_memory_scaler=1e6, **scale)
    batcher.load_states(state_of(*gas))
    small, *_, large = sorted(batcher.memory_scalers)
    batcher = BinningAutoBatcher(model, max_memory_scaler=small + large, **scale)
    options = {"n_steps": 3, "temperature": 0.0, "timestep": 0.0005}
    split = run(model, "nve", gas, autobatcher=batcher, **options)
    assert model.n_searches > 1
    whole = run(model, "nve", gas, **options)
    for name in ("positions", "forces", "energy"):
        torch.testing.assert_close(getattr(split, name), getattr(whole, name), rtol=0, atol=1e-10)
