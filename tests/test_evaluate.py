"""Error tables and parity plots, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from conftest import make_potential, salt_box, water
from typer import Typer
from typer.testing import CliRunner

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.cli.evaluate import evaluate
from hff_ase.data.frames import read_frames
from hff_ase.errors import ConfigError, StructureError
from hff_ase.evaluation.parity import save_parity
from hff_ase.evaluation.predictions import predictions
from hff_ase.evaluation.report import collect, systems_of
from hff_ase.evaluation.tables import as_dict, markdown_tables, tables
from hff_ase.potential import HybridPotential
from hff_ase.units import BAR


def labelled(potential: HybridPotential, seed: int = 0) -> list[Atoms]:
    """Frames with the potential's own results plus noise, as labels."""
    rng, out = np.random.default_rng(seed), []
    for k in range(7):
        atoms = water() if k % 3 == 2 else salt_box(k)
        atoms.rattle(0.02, seed=k)
        atoms.info["source"] = f"{'water' if k % 3 == 2 else 'salt'}:{k}"
        result = potential(AtomsBatch.from_atoms(atoms))
        stress = result.stress[0].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        noise = rng.normal(size=(len(atoms), 3))
        results = {
            "energy": float(result.energy) + len(atoms) * 0.1 * rng.normal(),
            "forces": result.forces.numpy() + 0.1 * (noise - noise.mean(0)),
            "charges": result.fields["charges"].numpy(),
        }
        if atoms.pbc.all():
            results["stress"] = stress + 1e-4
        else:
            results["dipole"] = result.fields["charges"].numpy() @ atoms.positions + 0.2
            atoms.info |= {"energy_coulomb": float(result.energy_terms["coulomb"]) + 0.3}
        atoms.calc = SinglePointCalculator(atoms, **results)
        out.append(atoms)
    return out


@pytest.fixture(scope="module")
def potential() -> HybridPotential:
    return make_potential().use_kernels("reference")


@pytest.fixture(scope="module")
def frames(potential: HybridPotential) -> list[Atoms]:
    return labelled(potential)


def test_errors_agree_with_numpy(potential: HybridPotential, frames: list[Atoms]) -> None:
    errors = collect(potential, frames)
    delta, numbers, systems = [], [], []
    for atoms in frames:
        result = potential(AtomsBatch.from_atoms(atoms))
        delta.append(result.forces.numpy() - atoms.get_forces())
        numbers.append(atoms.numbers)
        systems += [atoms.info["source"].split(":")[0]] * len(atoms)
    all_, z, system = np.concatenate(delta), np.concatenate(numbers), np.array(systems)
    rms = lambda x: np.sqrt(np.mean(x**2))  # noqa: E731
    assert errors.rmse("forces") == pytest.approx(rms(all_), rel=1e-5)
    assert errors.rmse("forces", element="O") == pytest.approx(rms(all_[z == 8]), rel=1e-5)
    assert errors.mae("forces", system="salt") == pytest.approx(
        np.abs(all_[system == "salt"]).mean(), rel=1e-5
    )
    assert errors.rmse("charges") < 1e-6
    # labels are 1e-4 eV/A^3 above in each diagonal element of the stress: pressure too high
    assert errors.bias("pressure") == pytest.approx(1e-4 / BAR, rel=1e-3)
    assert errors.bias("dipole") == pytest.approx(-0.2, abs=1e-6)
    assert errors.statistics("stress").n == 9 * 5
    assert np.isnan(errors.rmse("esp"))
    assert errors.term_errors["coulomb"].error.mean() == pytest.approx(-0.1, abs=1e-6)


def test_batches_give_what_single_frames_give(
    potential: HybridPotential, frames: list[Atoms]
) -> None:
    together = list(predictions(potential, frames, atoms_at_once=1000))
    alone = list(predictions(potential, frames, atoms_at_once=1))
    assert (len(together), len(alone)) == (1, len(frames))
    for name, value in together[0].values.items():
        apart = np.concatenate([p.values[name] for p in alone])
        np.testing.assert_allclose(value, apart, atol=1e-4)
    assert len(next(iter(predictions(potential, frames, atoms_at_once=17))).frames) == 2


def test_any_calculator_can_be_compared(frames: list[Atoms]) -> None:
    calculator = LennardJones(epsilon=0.01, sigma=1.5, rc=4.0)
    errors = collect(calculator, frames)
    assert "charges" not in errors.properties
    copy = frames[0].copy()
    copy.calc = calculator
    first = errors.samples["forces"].frame == 0
    np.testing.assert_allclose(
        errors.samples["forces"].predicted[first].reshape(-1, 3), copy.get_forces()
    )
    assert errors.statistics("stress").n == 9 * 5  # boxes only
    assert frames[0].calc.results["energy"] != pytest.approx(copy.get_potential_energy())


def test_a_calculator_is_evaluated_as_its_potential(
    small_calculator: HybridFF, frames: list[Atoms]
) -> None:
    by_calculator = collect(small_calculator, frames)
    by_potential = collect(small_calculator.potential, frames)
    assert by_calculator.rmse("forces") == by_potential.rmse("forces")
    assert set(by_calculator.terms) == set(small_calculator.potential.terms)


def test_a_shift_of_the_references_takes_element_offsets_off(
    potential: HybridPotential, frames: list[Atoms]
) -> None:
    shifted = [atoms.copy() for atoms in frames]
    for atoms, old in zip(shifted, frames, strict=True):
        results = dict(old.calc.results)
        results["energy"] += 50.0 * np.sum(atoms.numbers == 8) - 7.0 * len(atoms)
        atoms.calc = SinglePointCalculator(atoms, **results)
    plain, as_given = collect(potential, shifted), collect(potential, frames, reference_shift=True)
    fitted = collect(potential, shifted, reference_shift=True)
    assert plain.rmse("energy") > 1.0
    assert plain.other_reference
    assert plain.rmse_with_shift == pytest.approx(fitted.rmse("energy"), rel=1e-6)
    assert not collect(potential, frames).other_reference
    assert not fitted.other_reference
    assert fitted.rmse("energy") == pytest.approx(as_given.rmse("energy"), rel=1e-6)
    assert fitted.rmse("energy") < 0.2
    assert set(fitted.element_shift) == {"H", "Li", "C", "O", "F", "P"}


def test_systems_are_files_or_compositions_of_one_file() -> None:
    two = [Atoms("H2O", info={"source": "a:0"}), Atoms("LiF", info={"source": "b:1"})]
    assert systems_of(two) == ["a", "b"]
    two[1].info["source"] = "a:1"
    assert systems_of(two) == ["H2O", "FLi"]
    two[1].info["system"] = "crystal"
    assert systems_of(two)[1] == "crystal"


def test_tables_show_the_numbers(potential: HybridPotential, frames: list[Atoms]) -> None:
    errors = collect(potential, frames)
    made = {table.title.split(" (")[0]: table for table in tables(errors)}
    assert set(made) == {
        "Errors by property", "Errors by element", "Errors by system", "Energy by term",
    }  # fmt: skip
    forces = next(row for row in made["Errors by property"].rows if row[0] == "forces")
    assert forces[1:3] == ("meV/A", f"{1e3 * errors.rmse('forces'):.1f}")
    for table in made.values():
        assert {len(row) for row in table.rows} == {len(table.header)}
    salt = next(row for row in made["Errors by system"].rows if row[0] == "salt")
    assert salt[1] == "5"
    assert f"| salt | 5 | {1e3 * errors.bias('energy', system='salt'):.2f} |" in markdown_tables(
        errors
    )
    plain = as_dict(errors)
    assert plain["elements"]["Li"]["forces"]["rmse"] == errors.rmse("forces", element="Li")
    assert "dipole" not in plain["systems"]["salt"]
    assert plain["terms"]["coulomb"]["rmse"] == pytest.approx(0.1, abs=1e-5)
    json.dumps(plain, allow_nan=False)


def test_an_unknown_element_names_the_frame(potential: HybridPotential) -> None:
    sodium = Atoms("NaF", [[0, 0, 0], [0, 0, 2.0]], info={"source": "salts:4"})
    with pytest.raises(StructureError, match=r"holds Na .* in frame salts:4"):
        collect(potential, [water(), sodium])


def test_the_parity_plot_is_a_picture_with_a_panel_per_property(
    potential: HybridPotential, frames: list[Atoms], tmp_path: Path
) -> None:
    save_parity(collect(potential, frames), tmp_path / "parity.png", "small")
    from matplotlib.image import imread

    image = imread(tmp_path / "parity.png")
    assert image.shape[1] > image.shape[0] > 400
    assert float(image[..., :3].std()) > 0.05  # something is drawn
    assert torch.get_default_dtype() == torch.float32


def run(*arguments: object) -> tuple[int, str, BaseException | None]:
    app = Typer()
    app.command()(evaluate)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.output, result.exception


def test_the_command_prints_and_writes_tables_and_plot(
    small_model_path: Path, frames: list[Atoms], tmp_path: Path
) -> None:
    write(tmp_path / "set.extxyz", frames)
    out = tmp_path / "out"
    code, text, error = run(small_model_path, tmp_path / "set.extxyz", "-o", out)
    assert code == 0, error
    assert "Errors by property" in text
    assert sorted(p.name for p in out.iterdir()) == ["errors.json", "errors.md", "parity.png"]
    found = json.loads((out / "errors.json").read_text())
    expected = collect(make_potential(), read_frames(tmp_path / "set.extxyz"))
    assert found["properties"]["forces"]["rmse"] == pytest.approx(expected.rmse("forces"), rel=1e-3)
    assert found["n_frames"] == 7
    code, _, error = run(small_model_path, tmp_path / "set.extxyz", "-o", out)
    assert isinstance(error, ConfigError)
    assert "without results" in str(error)
    code, text, _ = run(
        small_model_path,
        tmp_path,
        "-o",
        out,
        "--force",
        "--every",
        3,
        "--json",
        "--reference-shift",
    )
    assert code == 0
    assert json.loads(text)["n_frames"] == 3


def test_the_command_points_to_the_shift_and_cuts_no_header(
    small_model_path: Path, frames: list[Atoms], tmp_path: Path
) -> None:
    shifted = [atoms.copy() for atoms in frames]
    for atoms, old in zip(shifted, frames, strict=True):
        results = dict(old.calc.results)
        results["energy"] += 400.0 * np.sum(atoms.numbers == 8) - 70.0 * len(atoms)
        atoms.calc = SinglePointCalculator(atoms, **results)
    write(tmp_path / "set.extxyz", shifted)
    code, text, error = run(small_model_path, tmp_path / "set.extxyz", "-o", tmp_path / "a")
    assert code == 0, error
    expected = collect(make_potential(), read_frames(tmp_path / "set.extxyz"))
    assert "with --reference-shift" in text
    assert f"RMSE is {1e3 * expected.rmse_with_shift:.2f} meV/atom" in text
    assert "RMS of labels" in text
    assert "\u2026" not in text
    write(tmp_path / "own.extxyz", frames)
    _, text, _ = run(small_model_path, tmp_path / "own.extxyz", "-o", tmp_path / "b")
    assert "--reference-shift" not in text


def test_the_command_refuses_broken_frames(
    small_model_path: Path, frames: list[Atoms], tmp_path: Path
) -> None:
    broken = [atoms.copy() for atoms in frames]
    for atoms, old in zip(broken, frames, strict=True):
        factor = 1000.0 if atoms.info["source"] == "salt:0" else 1.0
        results = {**old.calc.results, "forces": factor * old.calc.results["forces"]}
        atoms.calc = SinglePointCalculator(atoms, **results)
    write(tmp_path / "set.extxyz", broken)
    _, _, error = run(small_model_path, tmp_path / "set.extxyz", "-o", tmp_path / "out")
    assert isinstance(error, StructureError)
    assert "set:0" in str(error)
    assert not (tmp_path / "out").exists()
