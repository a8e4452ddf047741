"""Alignment of densities: gradients, pressure changes, training, and taking it up again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from conftest import make_potential

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.calculators.finetune import align
from hff_ase.calculators.finetune.align import REPORT, STATE, pools_of
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.pressure_changes import pressure_changes
from hff_ase.calculators.finetune.targets import Target
from hff_ase.checkpoint import ModelInfo
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.passes import Evaluation
from hff_ase.training.gradients import backward_of
from hff_ase.units import BAR, GRAM_PER_CM3

KELVIN = 300.0


def box(kind: str, size: float, seed: int) -> Atoms:
    """Eight molecules on a lattice, turned at random."""
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(8):
        one = molecule(kind)
        one.positions -= one.get_center_of_mass()
        one.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
        place = np.array([k // 4, k // 2 % 2, k % 2]) + 0.25 + 0.1 * rng.uniform(size=3)
        one.positions += 0.5 * size * place
        parts.append(one)
    atoms = parts[0]
    for one in parts[1:]:
        atoms = atoms + one
    atoms.set_cell(np.eye(3) * size)
    atoms.pbc = True
    atoms.set_array("molecule", np.repeat(np.arange(8), len(parts[0])))
    return atoms


def ensemble(kind: str, size: float, n: int = 24) -> Ensemble:
    rng = np.random.default_rng(len(kind))
    runs = [
        [box(kind, size * rng.normal(1.0, 0.01), 100 * r + k) for k in range(n // 2)]
        for r in range(2)
    ]
    return Ensemble.of(runs, kind, KELVIN, 1.0)


def calculator() -> HybridFF:
    return HybridFF(make_potential(), ModelInfo("small", "random weights"))


def density(one: Ensemble) -> float:
    return float((one.mass / one.volumes).mean() / GRAM_PER_CM3)


def test_gradients_of_a_loss_of_molecular_stress() -> None:
    """Fused kernels and a difference, against a double backward pass in float64."""
    batch = AtomsBatch.from_atoms([box("H2O", 8.0, 0), box("CH3OH", 9.0, 1)])
    rng = torch.Generator().manual_seed(0)
    weights = {
        "energy": torch.randn(2, generator=rng, dtype=torch.float64),
        "forces": torch.randn(batch.n_atoms, 3, generator=rng, dtype=torch.float64),
        "stress": 500.0 * torch.randn(2, 3, 3, generator=rng, dtype=torch.float64),
        "molecular_stress": 500.0 * torch.randn(2, 3, 3, generator=rng, dtype=torch.float64),
    }

    def objective(result: Evaluation) -> torch.Tensor:
        parts = [(getattr(result, name) * w).sum() for name, w in weights.items()]
        return torch.stack(parts).sum() + result.molecular_stress.square().sum() * 1e4

    found = {}
    for dtype, method in ((torch.float32, "auto"), (torch.float64, "reference")):
        potential = make_potential().set_dtype(dtype)
        potential.terms["short_range"].requires_grad_(True)
        potential.terms["short_range"].reference_energy.requires_grad_(False)
        backward_of(potential, batch, objective, method=method)
        found[dtype] = torch.cat(
            [p.grad.double().reshape(-1) for p in potential.parameters() if p.grad is not None]
        )
    exact = found[torch.float64]
    assert float((found[torch.float32] - exact).norm() / exact.norm()) < 2e-3


def test_pressure_changes_of_gaussian_volumes() -> None:
    """Of a Gaussian, <V> moves by beta p var(V): exactly what is solved for."""
    rng = np.random.default_rng(0)
    atoms = box("H2O", 10.0, 0)
    runs = [[atoms.copy() for _ in range(400)] for _ in range(2)]
    for run in runs:
        for one in run:
            one.set_cell(np.eye(3) * rng.normal(1000.0, 30.0) ** (1 / 3))
    samples = Ensemble.of(runs, "water", KELVIN, 1.0)
    calc = calculator()
    wanted = samples.mass / 985.0 / GRAM_PER_CM3
    pool = pools_of([samples], [calc.potential])[0]
    pool = pool.with_model(calc.potential)
    # positions do not matter here: the same energies for all
    pool = type(pool)(pool.ensemble, np.zeros(len(samples)), 1, pool.energies)
    object.__setattr__(pool.energies, "total", -BAR * samples.volumes)
    target = Target("water", "density", KELVIN, wanted, 0.001)
    (change,) = pressure_changes([pool], [target])
    expected = -15.0 * units.kB * KELVIN / 30.0**2 / BAR
    assert change.exact
    assert change.change == pytest.approx(expected, abs=4 * change.error + 0.03 * abs(expected))
    kappa = 30.0**2 / (units.kB * KELVIN * 1000.0) * units.GPa
    assert change.compressibility == pytest.approx(kappa, rel=0.1)
    assert change.n_eff < 800
    far = Target("water", "density", KELVIN, wanted * 1.3, 0.001)
    (change,) = pressure_changes([pool], [far])
    assert not change.exact
    pressure = Target("water", "pressure", KELVIN, 1.0, 0.1, at_density=1.0)
    with pytest.raises(ConfigError, match="expected densities to align to"):
        pressure_changes([pool], [pressure])


class StopAt:
    """Ends a training after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def check(self) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1


def test_an_alignment_changes_pressures_and_little_else(tmp_path: Path) -> None:
    calc, liquids = calculator(), [ensemble("H2O", 8.0), ensemble("CH3OH", 9.0)]
    targets = [Target(one.liquid, "density", KELVIN, density(one) * (1 + up), 0.001, source="test")
               for one, up in zip(liquids, (0.004, -0.003), strict=True)]  # fmt: skip
    # random weights resist: little else counts here
    settings = {"steps": 50, "learning_rate": 5e-3, "frames": 6, "save_every": 5, "forces": 1.0}
    settings |= {"internal": 1e4, "energy": 1.0}
    before = copy.deepcopy(calc.potential.state_dict())
    with pytest.raises(KeyboardInterrupt):
        align(calc, liquids, targets, settings=settings, folder=tmp_path, stop=StopAt(23))
    assert (tmp_path / STATE).exists()
    aligned = align(calc, liquids, targets, settings=settings, folder=tmp_path)
    for name, value in calc.potential.state_dict().items():
        assert torch.equal(value, before[name]), name
    changed = [
        name
        for name, value in aligned.potential.state_dict().items()
        if not torch.equal(value, before[name])
    ]
    assert changed
    assert all(".short_range.energy." in name for name in changed)
    uninterrupted = align(calc, liquids, targets, settings=settings)
    for name, value in uninterrupted.potential.state_dict().items():
        assert torch.equal(value, aligned.potential.state_dict()[name]), name

    report: dict[str, Any] = aligned.info.details["alignment"]
    assert (tmp_path / REPORT).exists()
    wanted = [change["change"] for change in report["changes"]]
    assert np.sign(wanted).tolist() == [-1.0, 1.0]
    evaluator = [Evaluator(one.potential, trajectory=False) for one in (calc, aligned)]
    for one, change in zip(liquids, wanted, strict=True):
        stresses = []
        for ev in evaluator:
            found = [ev.evaluate(b, derivatives=["molecules"]) for b in one.batches()]
            stresses.append(torch.cat([f.molecular_stress for f in found]))
        moved = -(stresses[1] - stresses[0]).diagonal(dim1=1, dim2=2).mean(1) / BAR
        assert float(moved.mean()) == pytest.approx(change, abs=0.35 * abs(change))
    loaded = HybridFF.load(tmp_path / "model.hff")
    assert loaded.info.name == "small-aligned"
    with pytest.raises(ConfigError, match="state of this alignment"):
        align(calc, liquids, targets, settings=settings, folder=tmp_path, parameters=["charges.*"])


def test_what_an_alignment_refuses() -> None:
    calc, liquid = calculator(), ensemble("H2O", 8.0)
    target = Target("H2O", "density", KELVIN, density(liquid), 0.001)
    with pytest.raises(ConfigError, match="expected densities to align to, got none"):
        align(calc, [liquid], [])
    with pytest.raises(ConfigError, match="got those of H2O 300 K"):
        align(calc, [liquid], [Target("DMC", "density", KELVIN, 1.0, 0.001)])
    with pytest.raises(ConfigError, match="weights to train in an alignment"):
        align(calc, [liquid], [target], parameters=["dispersion.a4"])
    with pytest.raises(ConfigError, match="unknown setting 'rate'"):
        align(calc, [liquid], [target], settings={"rate": 1.0})
    with pytest.raises(ConfigError, match="steps: expected at least 1, got 0"):
        align(calc, [liquid], [target], settings={"steps": 0})
