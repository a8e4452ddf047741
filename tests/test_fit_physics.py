"""Physical terms fitted to decomposed energies: bookkeeping, slopes, priors, known parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from core_models import molecular, toy_molecules
from golden import golden_structure
from typer.testing import CliRunner

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.finetune import fit_physics
from hff_ase.calculators.finetune.components import COMPONENTS, InteractionEnergies
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.fit_directions import directions
from hff_ase.calculators.finetune.fit_physics import FITTED
from hff_ase.calculators.finetune.physics_report import frame_weights
from hff_ase.calculators.finetune.targets import Target
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.checkpoint import load_model
from hff_ase.cli import app
from hff_ase.errors import ConfigError, StructureError
from hff_ase.evaluator import Evaluator
from hff_ase.importers.byteff import KCAL, from_byteff
from hff_ase.molecular.likeness import like_others
from hff_ase.molecular.templates import Template
from hff_ase.parameter_vector import ParameterVector
from hff_ase.potential import HybridPotential

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "byteff"
WATER = Atoms("OHH", [[0, 0, 0], [0.97, 0, 0], [-0.25, 0.94, 0]])
Charges = list[dict[int, int]]


def dimers() -> tuple[list[Atoms], Charges]:
    """Water with Li and with water, from several sides at several distances."""
    rng, frames, charges = np.random.default_rng(4), [], []
    for k in range(6):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        direction = rng.normal(size=3)
        other = Atoms("Li", [[0, 0, 0]]) if k % 2 else WATER.copy()
        other.positions = other.positions @ (turn * np.linalg.det(turn))
        other.positions += direction / np.linalg.norm(direction) * (2.3 + 0.4 * k)
        atoms = WATER + other
        atoms.set_array("molecule", np.repeat([0, 1], [3, len(other)]))
        atoms.info["charge"] = k % 2
        frames.append(atoms)
        charges.append({0: 0, 1: k % 2})
    return frames, charges


def toy() -> HybridPotential:
    return molecular().set_dtype(torch.float64)


def labelled(values: np.ndarray) -> list[Atoms]:
    """The dimers with components [n, 4], eV, as labels."""
    frames, charges = dimers()
    for atoms, of, (dispersion, electric, polarization, transfer) in zip(
        frames, charges, values, strict=True
    ):
        atoms.info |= {
            "molecule_charges": " ".join(str(q) for q in of.values()),
            "eda_dispersion": dispersion, "eda_electrostatics": 0.4 * electric,
            "eda_pauli": 0.6 * electric, "eda_polarization": polarization,
            "eda_charge_transfer": transfer,
        }  # fmt: skip
    return frames


def test_components_sum_to_the_interaction_energy() -> None:
    frames, charges = dimers()
    potential = toy()
    found = InteractionEnergies(potential, frames, charges).energies()
    evaluator = Evaluator(potential, trajectory=False)
    for atoms, of, own in zip(frames, charges, found, strict=True):
        parts = [atoms[atoms.arrays["molecule"] == k] for k in (0, 1)]
        for k, part in enumerate(parts):
            part.info = {"charge": of[k]}
        energy = evaluator.evaluate(AtomsBatch.from_atoms([atoms, *parts])).energy
        assert own.sum() == pytest.approx(float(energy[0] - energy[1] - energy[2]), abs=1e-9)


@pytest.mark.skipif(not DATA.is_dir(), reason="reference data are not beside the repository")
@pytest.mark.parametrize("file", ["dimers", "clusters"])
def test_bookkeeping_is_the_published_one(file: str) -> None:
    """Components of clusters with published parameters, evaluated elsewhere."""
    folders = [DATA / "published" / name for name in ("EC", "DMC", "LI", "PF6")]
    potential = from_byteff(folders, as_published=True, cutoff=80.0).set_dtype(torch.float64)
    data = np.load(DATA / f"{file}.npz")
    names = sorted({key.split("/")[0] for key in data if key.endswith("/EDA_TOTAL")})
    frames = [golden_structure(data, "param_charge_e", name) for name in names]
    charges = []
    for name, atoms in zip(names, frames, strict=True):
        ids, partial = atoms.arrays["molecule"], data[f"{name}/param_charge_e"]
        charges.append({int(k): round(float(partial[ids == k].sum())) for k in np.unique(ids)})
    found = InteractionEnergies(potential, frames, charges).energies() / KCAL
    published = ("EDA_DISP", "EDA_ELEC_PAULI", "EDA_POLARIZATION", "EDA_CHARGE_TRANSFER")
    for k, name in enumerate(names):
        expected = [float(data[f"{name}/{what}"]) for what in published]
        np.testing.assert_allclose(found[k], expected, rtol=0, atol=1e-6, err_msg=name)


def test_slopes_are_those_of_finite_differences() -> None:
    frames, charges = dimers()
    energies = InteractionEnergies(toy(), frames[:4], charges[:4])
    theta = ParameterVector(energies.potential, FITTED)
    slopes, start = energies.gradients(theta), theta.get()
    rng = np.random.default_rng(5)
    for _ in range(3):
        direction, ends = rng.normal(size=len(theta)), []
        for sign in (1.0, -1.0):
            theta.set(start + sign * 1e-5 * direction)
            ends.append(energies.energies())
        theta.set(start)
        expected = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(slopes @ direction, expected, rtol=1e-5, atol=1e-7)


def test_steps_keep_whole_charges_and_what_is_one_quantity() -> None:
    theta = ParameterVector(toy(), FITTED)
    found = directions(theta, {"water"}, 1.0)
    start = theta.get()
    theta.set(start + found.basis @ np.random.default_rng(6).normal(size=found.basis.shape[1]))
    terms = {name: term.config() for name, term in theta.potential.named_terms()}
    before = {entry["name"]: entry for entry in toy_molecules()}
    for name, key in (("charges", "charge"), ("exp6", "c6"), ("induction", "polarizability")):
        for entry in terms[name]["molecules"]:
            same = np.allclose(entry[key], before[entry["name"]][key])
            assert same == (entry["name"] != "water"), (name, entry["name"])
    water = terms["charges"]["molecules"][0]["charge"]
    assert sum(water) == pytest.approx(0.0, abs=1e-12)
    assert water[1] == water[2]
    radii = [terms[name]["molecules"][0]["radius"] for name in ("exp6", "transfer")]
    np.testing.assert_allclose(radii[0], radii[1], rtol=1e-12)


def test_the_fit_recovers_known_parameters_within_its_widths() -> None:
    """Labels of other parameters with noise; Li and the chain stay as they are."""
    frames, charges = dimers()
    true = InteractionEnergies(toy(), frames, charges)
    theta = ParameterVector(true.potential, FITTED)
    moves, rng = directions(theta, {"water"}, 1.0), np.random.default_rng(7)
    start = theta.get()
    theta.set(start + 0.7 * moves.basis @ rng.normal(size=moves.basis.shape[1]))
    wanted, error = theta.get()[moves.chosen], 2e-3
    values = true.energies()
    values = values + 0.2 * error * rng.normal(size=values.shape)
    labels = labelled(values)
    for atoms in labels[-2:]:
        atoms.info["scan"] = "far"
    settings = {"error": error, "iterations": 3}
    fitted, report = fit_physics(
        HybridFF(toy(), dtype="float64"), labels, ["water"], held_out=["far"], settings=settings
    )
    assert report.labels == moves.labels
    off = np.abs(report.theta - wanted) / report.posterior
    assert off.max() < 3.5
    assert np.sqrt(np.mean(off**2)) < 1.2
    assert (report.posterior <= report.width * 1.0001).all()
    assert report.posterior.min() < 0.2 * report.width.max()
    out = report.held_out
    assert out.sum() == 2
    for which, part in ((out, 0.6), (~out, 0.2)):
        before, after = (report.errors(v, which) for v in (report.before, report.after))
        assert after[-1] < part * before[-1]
        assert after.max() < 3 * error
    assert report.objective[-1] < 0.01 * report.objective[0]
    assert fitted.info.details["fit_physics"]["errors_kcal_per_mol"]["held_out"]["n_frames"] == 2


def test_forces_between_molecules_are_slopes_of_interaction_energies() -> None:
    frames, charges = dimers()
    potential = toy()
    energies = InteractionEnergies(potential, frames[:2], charges[:2])
    evaluator, found = Evaluator(potential, trajectory=False), []
    for atoms, of in zip(frames[:2], charges, strict=False):
        systems = []
        for k in range(3 * len(atoms)):
            for sign in (1.0, -1.0):
                moved = atoms.copy()
                moved.positions[k // 3, k % 3] += sign * 1e-4
                parts = [moved[moved.arrays["molecule"] == m] for m in (0, 1)]
                for m, part in enumerate(parts):
                    part.info = {"charge": of[m]}
                systems += [moved, *parts]
        energy = evaluator.evaluate(AtomsBatch.from_atoms(systems)).energy.detach().numpy()
        between = energy.reshape(-1, 2, 3) @ [1.0, -1.0, -1.0]
        found.append(np.abs(between[:, 0] - between[:, 1]).max() / 2e-4)
    np.testing.assert_allclose(energies.largest_forces(), found, rtol=1e-5)


def test_frames_weigh_as_published() -> None:
    """exp(-(min(E, E') - 10)/2) above 10 kcal/mol; half a cosine from 50 to 80 kcal/mol/A."""
    wanted, values = np.zeros((5, 5)), np.zeros((5, 5))
    values[:, -1] = np.array([12.0, 12.0, 30.0, -5.0, -5.0]) * KCAL
    wanted[:, -1] = np.array([14.0, 8.0, 13.0, -9.0, -9.0]) * KCAL
    forces = np.array([0.0, 49.0, 65.0, 65.0, 81.0]) * KCAL
    expected = [np.exp(-1.0), 1.0, 0.5 * np.exp(-1.5), 0.5, 0.0]
    np.testing.assert_allclose(frame_weights(values, wanted, forces), expected, rtol=1e-6)


def waters(n: int = 20) -> Ensemble:
    """Eight rigid waters on a lattice, turned and moved at random, in cells of several volumes."""
    rng, positions, cells = np.random.default_rng(8), [], []
    sites = np.stack(np.meshgrid(*[[0.25, 0.75]] * 3), axis=-1).reshape(-1, 3)
    for _ in range(n):
        length = 6.6 * (1.0 + 0.04 * rng.normal())
        own = []
        for site in sites:
            turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            centre = site * length + 0.1 * rng.normal(size=3)
            own.append(WATER.positions @ (turn * np.linalg.det(turn)) + centre)
        positions.append(np.concatenate(own))
        cells.append(length * np.eye(3))
    every = sum([WATER] * 8, Atoms())
    return Ensemble(
        "water", 3000.0, 1.0, every.numbers, every.get_masses(), np.repeat(np.arange(8), 3),
        np.stack(positions), np.stack(cells), np.zeros(n, dtype=np.int64),
    )  # fmt: skip


@pytest.mark.slow
def test_forces_and_measured_values_join_the_objective() -> None:
    """Labels of energies ask for nothing: what moves is what the others pull at."""
    frames, charges = dimers()
    calc = HybridFF(molecular(1e-6).set_dtype(torch.float64), dtype="float64")
    labels = labelled(InteractionEnergies(calc.potential, frames, charges).energies())
    other = molecular(1e-6).set_dtype(torch.float64)
    theta = ParameterVector(other, FITTED)
    moves = directions(theta, {"water"}, 1.0)
    step = np.random.default_rng(9).normal(size=moves.basis.shape[1])
    theta.set(theta.get() + 0.3 * moves.basis @ step)
    samples = waters()
    box = samples.atoms(0)
    box.calc = HybridFF(other, dtype="float64")
    box.calc = SinglePointCalculator(box, energy=0.0, forces=box.get_forces())
    target = Target("water", "density", 3000.0, 0.86, 0.001)
    _, both = fit_physics(
        calc, labels, ["water"], forces=[box], ensembles=[samples], targets=[target],
        settings={"error": 0.05, "iterations": 1, "n_draws": 4, "weight": 1e3},
    )  # fmt: skip
    assert both.force_rmse[1] < 0.7 * both.force_rmse[0]
    before, after = (predictions[0].value for predictions in both.experiment)
    assert abs(after - target.value) < abs(before - target.value)
    assert both.objective[1] < both.objective[0]
    assert both.as_dict()["targets"][0]["after"] == after


def test_what_joins_a_fit_is_complete() -> None:
    calc, labels = HybridFF(toy(), dtype="float64"), labelled(np.zeros((6, len(COMPONENTS))))
    with pytest.raises(ConfigError, match="weight of forces"):
        fit_physics(calc, labels, ["water"], settings={"weight": 1.0})
    with pytest.raises(ConfigError, match="targets with the samples"):
        fit_physics(calc, labels, ["water"], ensembles=[waters()])


def renumbered(entry: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """A molecule with its atoms in another order, and another name."""
    place = {old: new for new, old in enumerate(order)}
    out: dict[str, Any] = {"name": "other"}
    for key, values in entry.items():
        if key == "bonds" or key.endswith("_terms"):
            width = {"bonds": 2, "bond_terms": 2, "angle_terms": 3}.get(key, 4)
            out[key] = [[*(place[k] for k in row[:width]), *row[width:]] for row in values]
        elif key != "name":
            out[key] = [values[k] for k in order]
    return out


def test_a_known_molecule_in_another_order_gets_its_own_parameters() -> None:
    water, chain, _ = toy_molecules()
    chain["angle_terms"].append([3, 2, 4, 2.5, 2.05])  # of all angles, as a real molecule has
    expected = renumbered(chain, [3, 0, 4, 2, 1])
    found = like_others(Template.of(expected), 0, [water, chain])
    assert found["charge"] == pytest.approx(expected["charge"])
    assert found["c6"] == expected["c6"]
    for name, width in (("bond_terms", 2), ("angle_terms", 3), ("proper_terms", 4)):
        ends = [
            {
                (min(tuple(r[:width]), tuple(r[:width][::-1])), tuple(np.round(r[width:], 12)))
                for r in rows
            }
            for rows in (found[name], expected[name])
        ]
        assert ends[0] == ends[1], name


def test_similar_atoms_and_what_has_none() -> None:
    water, chain, lithium = toy_molecules()
    peroxide = Template("peroxide", (8, 8, 1, 1), ((0, 1), (0, 2), (1, 3)))
    with pytest.raises(ConfigError, match="bond_terms like that of atoms"):
        like_others(peroxide, 0, [water, chain])
    bare = [{k: v for k, v in one.items() if not k.endswith("_terms")} for one in (water, chain)]
    found = like_others(peroxide, -2, bare)
    assert found["c6"] == [12.0, 12.0, 1.5, 1.5]
    assert sum(found["charge"]) == pytest.approx(-2.0)
    assert found["charge"][0] == found["charge"][1]
    with pytest.raises(ConfigError, match="atomic number 8"):
        like_others(peroxide, 0, [lithium])


def test_what_a_fit_refuses() -> None:
    calc, frames = HybridFF(toy(), dtype="float64"), labelled(np.zeros((6, len(COMPONENTS))))
    with pytest.raises(ConfigError, match=r"molecules of the frames \(water, Li\), got chain"):
        fit_physics(calc, frames, ["chain"])
    with pytest.raises(ConfigError, match=r"scans to hold out among Li\+water, water\+water"):
        fit_physics(calc, frames, ["water"], held_out=["nothing"])
    del frames[0].info["eda_pauli"]
    with pytest.raises(StructureError, match="in frame 0, no eda_pauli"):
        fit_physics(calc, frames, ["water"])


def test_the_command_writes_model_and_report(tmp_path: Path) -> None:
    calc = HybridFF(toy(), dtype="float64")
    frames, charges = dimers()
    labels = labelled(InteractionEnergies(toy(), frames, charges).energies() + 1e-3)
    calc.save(tmp_path / "toy.hff", [frames[0]])
    write(tmp_path / "eda.extxyz", labels[:4])
    command = ["fit-physics", str(tmp_path / "eda.extxyz"), "--molecules", "Water", "--prior",
               str(tmp_path / "toy.hff"), "-o", str(tmp_path / "new.hff"),
               "--iterations", "1", "--held-out", "Li+water"]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "2 held out, fit" in result.output
    _, info = load_model(tmp_path / "new.hff")
    assert "water charge O0" in info.details["fit_physics"]["parameters"]
    assert (tmp_path / "new.hff.json").is_file()
