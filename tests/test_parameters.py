"""Parameters of potentials by name and as a vector: selection, transforms, gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from core_models import ELEMENTS, equilibrated, hybrid, molecular, molecular_box

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.checkpoint import ModelInfo, load_model, save_model
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.models import available_models, model_path
from hff_ase.parameter_vector import ParameterVector
from hff_ase.parameters import declared, matching, parameter_names, set_values, values
from hff_ase.potential import HybridPotential
from hff_ase.terms.dispersion import D3Dispersion
from hff_ase.terms.dispersion.damping import DAMPINGS
from hff_ase.testing import ionic_box
from hff_ase.training.adapt.lora import add_lora


def dispersion_only(damping: str) -> Callable[[], HybridPotential]:
    """D3 of one damping."""
    given: dict[str, dict[str, float]] = {
        "bj": {"s8": 0.8, "a1": 0.4, "a2": 4.4},
        "zero": {"s8": 0.7, "rs6": 1.2, "rs8": 1.1},
        "cso": {"a1": 0.8, "a3": 0.1},
    }

    def build() -> HybridPotential:
        term = D3Dispersion(damping=damping, parameters=given[damping], cutoff=7.0, cn_cutoff=6.0)
        return HybridPotential({"d3": term}, ELEMENTS)

    return build


def slope(potential: HybridPotential, name: str, batch: AtomsBatch, seed: int = 0) -> torch.Tensor:
    """dE/ds along a random direction of a parameter by central differences, [n_systems], and along
    the gradient that the evaluator gives."""
    (before,) = values(potential, [name]).values()
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(before.shape, generator=generator, dtype=torch.float64)
    stays_positive = declared(potential)[name].transform == "log"
    direction = direction * before.abs().clamp(min=0.0 if stays_positive else 1e-3)
    wanted = {"derivatives": ["parameters"], "parameters": [name]}
    found = Evaluator(potential, trajectory=False).evaluate(batch, **wanted)  # type: ignore[arg-type]
    gradient = found.parameter_gradients[name]
    along = (gradient * direction).flatten(1).sum(1) if before.dim() else gradient * direction
    ends = []
    for sign in (1.0, -1.0):
        set_values(potential, {name: before + sign * 1e-5 * direction})
        result = Evaluator(potential, trajectory=False).evaluate(batch, derivatives=[])
        ends.append(result.energy)
    set_values(potential, {name: before})
    return torch.stack([(ends[0] - ends[1]) / 2e-5, along])


@pytest.mark.parametrize(
    "build",
    [hybrid, equilibrated, molecular, *map(dispersion_only, DAMPINGS)],
    ids=["hybrid", "qeq and d3", "molecular", *DAMPINGS],
)
def test_gradients_of_all_declared_parameters(build: Callable[[], HybridPotential]) -> None:
    atoms = molecular_box() if build is molecular else ionic_box()
    potential = build().set_dtype(torch.float64)
    close(potential, AtomsBatch.from_atoms([atoms, atoms]))


def close(potential: HybridPotential, batch: AtomsBatch) -> None:
    for name in declared(potential):
        difference, along = slope(potential, name, batch)
        scale = max(1.0, float(difference.abs().max()))
        assert float((difference - along).abs().max()) < 2e-6 * scale, name


def frame_for(potential: HybridPotential) -> Atoms:
    """A small box of the elements that a model knows."""
    atoms = ionic_box()
    atoms.symbols = [s if s in (potential.elements or ()) else "O" for s in atoms.symbols]
    return atoms


@pytest.mark.parametrize("name", available_models())
def test_gradients_of_shipped_models(name: str) -> None:
    potential, _ = load_model(model_path(name), torch.float64)
    if name == "ec-dmc-lipf6-pol":
        from hff_ase.dynamics.build import build_box

        atoms = build_box("1 M LiPF6 in EC:DMC 1:1 mol/mol", n_atoms=98, seed=0)
    else:
        atoms = frame_for(potential)
    close(potential, AtomsBatch.from_atoms(atoms))


def test_fused_kernels_follow_constants() -> None:
    """Tables of kernels are made anew where a constant has changed."""
    for build in (hybrid, equilibrated):
        potential = build()
        batch = AtomsBatch.from_atoms(ionic_box())
        evaluator = Evaluator(potential)
        before = evaluator.evaluate(batch).energy
        names = [n for n, what in declared(potential).items() if n.startswith("dispersion.")]
        set_values(potential, {n: 1.05 * v for n, v in values(potential, names).items()})
        fast = evaluator.evaluate(batch).energy
        exact = Evaluator(potential.use_kernels("reference")).evaluate(batch).energy
        torch.testing.assert_close(fast, exact, rtol=1e-6, atol=1e-5)
        assert float((fast - before).abs()) > 1e-3


def test_the_vector_is_in_transformed_coordinates() -> None:
    potential = hybrid()
    vector = ParameterVector(potential, ["dispersion.scale", "dispersion.a4", "charges.hardness*"])
    theta = vector.get()
    assert len(theta) == len(vector) == len(vector.labels) == len(vector.prior_width)
    assert theta[vector.labels.index("dispersion.scale")] == 0.0
    assert theta[vector.labels.index("dispersion.a4")] == pytest.approx(np.log(4.5))
    assert "charges.hardness_root[Li]" in vector.labels
    new = theta + 0.01 * np.arange(len(theta))
    vector.set(new)
    np.testing.assert_allclose(vector.get(), new, atol=1e-12)
    assert potential.scales["dispersion"] == pytest.approx(
        np.exp(new[vector.labels.index("dispersion.scale")])
    )
    batch = AtomsBatch.from_atoms([ionic_box(), ionic_box(seed=2)])
    potential.set_dtype(torch.float64)
    wanted = {"derivatives": ["parameters"], "parameters": vector.names}
    found = Evaluator(potential, trajectory=False).evaluate(batch, **wanted)  # type: ignore[arg-type]
    gradients = vector.gradients(found.parameter_gradients)
    direction = np.random.default_rng(0).normal(size=len(new))
    ends = []
    for sign in (1.0, -1.0):
        vector.set(new + sign * 1e-5 * direction)
        ends.append(Evaluator(potential, trajectory=False).evaluate(batch).energy.numpy())
    np.testing.assert_allclose(gradients @ direction, (ends[0] - ends[1]) / 2e-5, rtol=1e-6)


def test_zeros_stay_zero_under_a_logarithm() -> None:
    potential = hybrid()
    term = potential.terms["dispersion"]
    term.c6[0] = 0.0
    vector = ParameterVector(potential, ["dispersion.c6"])
    assert len(vector) == len(ELEMENTS) - 1
    vector.set(vector.get() + 0.1)
    assert float(term.c6[0]) == 0.0


def test_groups_of_parameters() -> None:
    potential = hybrid()
    physical = matching(potential, ["physical"])
    assert {"coulomb.damping_r0", "dispersion.c6", "zbl.outer", "zbl.scale"} <= set(physical)
    assert not any(name.startswith("short_range.") for name in physical)
    heads = matching(potential, ["heads"])
    assert heads
    assert all(name.startswith("short_range.energy.") for name in heads)
    with pytest.raises(ConfigError, match="'lora', of which this model has none"):
        matching(potential, ["lora"])
    add_lora(potential, 2, None, ["*short_range.energy.*"])
    assert len(matching(potential, ["lora", "heads"])) > len(matching(potential, ["lora"])) > 0
    assert matching(potential, ["*"]) == parameter_names(potential)


def test_what_a_term_refuses_changes_nothing() -> None:
    potential = hybrid()
    before = values(potential, ["coulomb.damping_r0", "zbl.outer"])
    new = {"zbl.outer": torch.tensor(0.9), "coulomb.damping_r0": torch.tensor(9.0)}
    with pytest.raises(ConfigError, match="Coulomb cutoff"):
        set_values(potential, new)
    assert values(potential, list(before)) == before
    vector = ParameterVector(potential, ["dispersion.scale"])
    with pytest.raises(ConfigError, match="1 finite parameters"):
        vector.set(np.array([np.nan]))


def test_a_model_file_keeps_changed_constants(tmp_path) -> None:
    potential = hybrid()
    vector = ParameterVector(potential, ["dispersion.*", "coulomb.*", "zbl.*"])
    vector.set(vector.get() + 0.01)
    save_model(tmp_path / "new.hff", potential, ModelInfo("new"), [ionic_box()])
    loaded = HybridFF.load(tmp_path / "new.hff")
    again = ParameterVector(loaded.potential, ["dispersion.*", "coulomb.*", "zbl.*"])
    np.testing.assert_allclose(again.get(), vector.get(), atol=1e-14)
