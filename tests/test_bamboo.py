"""The importer of published BAMBOO checkpoints against reference results, and its errors."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import nn

import hff_ase.testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.checkpoint import ModelInfo, load_model, save_model
from hff_ase.errors import CheckpointError
from hff_ase.importers.bamboo import from_bamboo, read_arrays
from hff_ase.potential import HybridPotential
from hff_ase.units import KCAL_PER_MOL

BOXES = (
    "DMC", "EC", "EtOH", "LiPF6_EC_DMC", "LiFSI_DMC_hi", "LiTFSI_PC", "DMC_triclinic",
    "EC_tiny_cell",
)  # fmt: skip
MOLECULES = ("EC_molecule", "Li_EC_cation", "PF6_anion")
MODES = {True: "exact", False: "published"}  # charge_response -> which forces


@cache
def imported(
    folder: Path, charge_response: bool, method: str, tolerance: float, dtype: torch.dtype
) -> HybridPotential:
    return from_bamboo(
        folder / "weights.npz",
        charge_response=charge_response,
        coulomb_method=method,
        tolerance=tolerance,
    ).set_dtype(dtype)


@pytest.fixture(scope="module")
def bamboo(shared_data: Path) -> Path:
    folder = shared_data / "bamboo"
    if not (folder / "reference.npz").is_file():
        pytest.skip(f"no reference results at {folder}")
    return folder


@pytest.fixture(scope="module")
def reference(bamboo: Path) -> dict[str, dict[str, np.ndarray]]:
    table: dict[str, dict[str, np.ndarray]] = {}
    with np.load(bamboo / "reference.npz") as file:
        for key in file.files:
            system, quantity = key.split("/")
            table.setdefault(system, {})[quantity] = file[key]
    return table


def structure(values: dict[str, np.ndarray]) -> Atoms:
    atoms = Atoms(
        numbers=values["numbers"],
        positions=values["positions"],
        cell=values["cell"],
        pbc=values["pbc"],
    )
    atoms.info["charge"] = float(values["charge"])
    return atoms


def test_every_reference_system_is_covered(reference: dict[str, dict[str, np.ndarray]]) -> None:
    assert set(reference) == {*BOXES, *MOLECULES}


@pytest.mark.parametrize("name", [*BOXES, *MOLECULES])
@pytest.mark.parametrize("charge_response", [True, False])
def test_float64_with_a_converged_lattice_sum(
    bamboo: Path,
    reference: dict[str, dict[str, np.ndarray]],
    name: str,
    charge_response: bool,
) -> None:
    expected = reference[name]
    potential = imported(bamboo, charge_response, "ewald", 1e-13, torch.float64)
    terms = {"short_range": "e_nn", "charges": "e_charge", "coulomb": "e_coulomb"}
    if name in BOXES:
        terms["dispersion"] = "e_dispersion"
    else:  # the reference leaves it out for molecules
        potential = potential.subset(list(terms))
    result = potential(AtomsBatch.from_atoms(structure(expected)))
    for term, key in terms.items():
        energy = float(result.energy_terms[term]) / KCAL_PER_MOL
        assert energy == pytest.approx(float(expected[key]), rel=1e-7), term
    assert result.forces is not None
    assert result.stress is not None
    kind = MODES[charge_response]
    np.testing.assert_allclose(result.fields["charges"], expected["charges"], rtol=0, atol=1e-8)
    forces = result.forces.numpy() / KCAL_PER_MOL
    np.testing.assert_allclose(forces, expected[f"forces_{kind}"], rtol=0, atol=1e-5)
    if name in BOXES:
        stress = expected[f"stress_{kind}"] * KCAL_PER_MOL
        np.testing.assert_allclose(result.stress[0], stress, rtol=0, atol=1e-8)


@pytest.mark.parametrize("charge_response", [True, False])
def test_float32_with_a_mesh_in_one_batch(
    bamboo: Path, reference: dict[str, dict[str, np.ndarray]], charge_response: bool
) -> None:
    """As it is used: all boxes in one pass, networks in float32, particle-mesh Ewald."""
    potential = imported(bamboo, charge_response, "pme", 1e-6, torch.float32)
    batch = AtomsBatch.from_atoms([structure(reference[name]) for name in BOXES])
    result = potential(batch)
    assert result.forces is not None
    assert result.stress is not None
    kind = MODES[charge_response]
    for k, name in enumerate(BOXES):
        expected, own = reference[name], batch.system == k
        parts = ("e_nn", "e_charge", "e_coulomb", "e_dispersion")
        energy = sum(float(expected[part]) for part in parts) * KCAL_PER_MOL
        assert abs(float(result.energy[k]) - energy) / int(own.sum()) < 1e-5, name
        charges = result.fields["charges"][own].numpy()
        np.testing.assert_allclose(charges, expected["charges"], rtol=0, atol=2e-6, err_msg=name)
        forces = result.forces[own].numpy() / KCAL_PER_MOL
        np.testing.assert_allclose(
            forces, expected[f"forces_{kind}"], rtol=0, atol=2e-3, err_msg=name
        )
        stress = expected[f"stress_{kind}"] * KCAL_PER_MOL
        np.testing.assert_allclose(result.stress[k], stress, rtol=0, atol=1e-6, err_msg=name)


def test_calculator_gives_the_same(
    bamboo: Path, reference: dict[str, dict[str, np.ndarray]]
) -> None:
    expected = reference["EC_tiny_cell"]
    atoms = structure(expected)
    atoms.calc = HybridFF.from_bamboo(bamboo / "weights.npz", dtype="float64")
    forces = atoms.get_forces() / KCAL_PER_MOL
    np.testing.assert_allclose(forces, expected["forces_exact"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(atoms.get_charges(), expected["charges"], rtol=0, atol=1e-8)


def test_the_two_modes_differ_in_derivatives_only(
    bamboo: Path, reference: dict[str, dict[str, np.ndarray]]
) -> None:
    batch = AtomsBatch.from_atoms(structure(reference["LiTFSI_PC"]))
    exact, published = (
        imported(bamboo, mode, "ewald", 1e-13, torch.float64)(batch) for mode in MODES
    )
    assert torch.equal(exact.energy, published.energy)
    assert exact.forces is not None
    assert published.forces is not None
    assert 1e-3 < float((exact.forces - published.forces).norm(dim=1).max()) < 0.2  # eV/A


# ---- a checkpoint made here, with the published names and random numbers


def random_arrays(channels: int = 32, n_radial: int = 6) -> dict[str, np.ndarray]:
    """Every array that the importer reads, under its published name."""
    rng = np.random.default_rng(0)
    c, hidden = channels, 32
    shapes: dict[str, tuple[int, ...]] = {
        "atom_embtab.weight": (87, c),
        "dis_rbf.means": (n_radial,),
        "dis_rbf.betas": (n_radial,),
        "dv_proj.0.weight": (c, n_radial),
        "oplsaa_charge.weight": (18, 1),
        "electronegativity_table.weight": (18, 1),
        "c6_emb.weight": (37, 1),
        "r0_emb.weight": (37, 1),
    }
    for layer, n_out, n_vec in (("first_attn", 1, 0), ("attns.0", 3, 3), ("last_attn", 2, 2)):
        shapes |= {
            f"{layer}.qkv_proj.weight": (3 * c, c),
            f"{layer}.qkv_proj.bias": (3 * c,),
            f"{layer}.o_proj.weight": (n_out * c, c),
            f"{layer}.o_proj.bias": (n_out * c,),
            f"{layer}.layer_norm.weight": (c,),
            f"{layer}.layer_norm.bias": (c,),
        }
        if n_vec:
            shapes[f"{layer}.vec_proj.weight"] = (n_vec * c, c)
    electronegativity = "pred_electronegativity"
    for head in (
        "energy_mlp", "charge_mlp", f"{electronegativity}_mlp", f"{electronegativity}_hardness_mlp",
    ):  # fmt: skip
        for layer, (n_out, n_in) in {0: (hidden, c), 2: (hidden, hidden), 4: (1, hidden)}.items():
            shapes |= {f"{head}.{layer}.weight": (n_out, n_in), f"{head}.{layer}.bias": (n_out,)}
    arrays = {
        name: (0.3 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()
    }
    for name in ("c6_emb.weight", "r0_emb.weight", "electronegativity_table.weight"):
        arrays[name] = np.abs(arrays[name]) + 1.0
    arrays["dis_rbf.betas"] = np.abs(arrays["dis_rbf.betas"]) + 1.0
    return arrays


def as_npz(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "weights.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def as_torchscript(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A scripted module with parameters under these names, as the published file has them."""
    root = nn.Module()
    for name, array in arrays.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.register_parameter(last, nn.Parameter(torch.as_tensor(array)))
    torch.jit.script(root).save(str(folder / "weights.pt"))
    return folder / "weights.pt"


def test_torchscript_and_npz_are_the_same_model(tmp_path: Path) -> None:
    arrays = random_arrays()
    one, two = from_bamboo(as_npz(tmp_path, arrays)), from_bamboo(as_torchscript(tmp_path, arrays))
    assert set(read_arrays(tmp_path / "weights.pt")) == set(arrays)
    assert one.state_dict().keys() == two.state_dict().keys()
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())
    batch = AtomsBatch.from_atoms([checks.ionic_box(seed=1), checks.cluster("H4C2O")])
    assert torch.equal(one(batch).energy, two(batch).energy)


def test_units_are_converted_once(tmp_path: Path) -> None:
    """An isolated atom: its energies by hand, in kcal/mol."""
    arrays = random_arrays()
    potential = from_bamboo(as_npz(tmp_path, arrays), coulomb_method="ewald")
    potential.set_dtype(torch.float64)
    atoms = Atoms("O", info={"charge": -1.0})
    result = potential(AtomsBatch.from_atoms(atoms))
    w = {name: array.astype(float) for name, array in arrays.items()}

    def head(name: str, x: np.ndarray) -> float:
        for layer in (0, 2, 4):
            x = w[f"{name}.{layer}.weight"] @ x + w[f"{name}.{layer}.bias"]
            x = x / (1.0 + np.exp(-x)) if layer < 4 else x
        return float(x[0])

    start = w["atom_embtab.weight"][8]
    x = start + w["first_attn.o_proj.bias"]
    x = x + w["attns.0.o_proj.bias"][64:] + w["last_attn.o_proj.bias"][32:]
    expected = head("energy_mlp", x) * KCAL_PER_MOL
    assert float(result.energy_terms["short_range"]) == pytest.approx(expected, rel=1e-6)
    root = np.sqrt(w["electronegativity_table.weight"][8, 0])
    chi = (root + head("pred_electronegativity_mlp", start)) ** 2
    hardness = head("pred_electronegativity_hardness_mlp", start) ** 2
    expected = (chi * -1.0 + hardness) * KCAL_PER_MOL
    assert float(result.energy_terms["charges"]) == pytest.approx(expected, rel=1e-6)
    assert float(result.energy_terms["coulomb"]) == 0.0
    assert float(result.energy_terms["dispersion"]) == 0.0


def test_imported_model_keeps_every_invariant(tmp_path: Path) -> None:
    potential = from_bamboo(as_npz(tmp_path, random_arrays())).set_dtype(torch.float64)
    structures = [checks.cluster("H4C2O"), checks.ionic_box("Li2F2HO", charge=1.0), Atoms("Li")]
    checks.check_potential(potential, structures, lattice_sum_tolerance=1e-4)


def test_imported_model_saves_and_loads(tmp_path: Path) -> None:
    potential = from_bamboo(as_npz(tmp_path, random_arrays()), charge_response=False)
    path = tmp_path / "imported.hff"
    references = [checks.cluster("H4C2O"), checks.ionic_box("Li2F2HO")]
    save_model(path, potential.requires_grad_(False), ModelInfo("imported"), references)
    loaded, _ = load_model(path)
    batch = AtomsBatch.from_atoms(references)
    assert torch.equal(loaded(batch).forces, potential(batch).forces)  # type: ignore[arg-type]


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        from_bamboo(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("expected")
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(random_arrays()))
def test_a_missing_array_is_named(name: str, tmp_path: Path) -> None:
    arrays = random_arrays()
    del arrays[name]
    if name == "attns.0.qkv_proj.weight":  # what tells that there is such a layer
        return
    assert name in refusal(as_npz(tmp_path, arrays))


@pytest.mark.parametrize("name", sorted(random_arrays()))
@pytest.mark.parametrize("shape", [(3, 5), (7,), ()])
def test_a_misshapen_array_is_refused(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    arrays: dict[str, Any] = random_arrays()
    arrays[name] = np.ones(shape, dtype=np.float32)
    refusal(as_npz(tmp_path, arrays))


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    assert "no file at" in refusal(tmp_path / "nothing.pt")
    assert "no file at" in refusal(tmp_path)
    for name, content in {
        "text.pt": b"text",
        "empty.npz": b"",
        "text.npz": b"text",
        "zip.npz": b"PK\x03\x04 not really",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert "cannot be read" in refusal(path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "dict.pt")
    refusal(tmp_path / "dict.pt")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    refusal(tmp_path / "objects.npz")
    refusal(as_npz(tmp_path, {}))
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes(as_npz(tmp_path, random_arrays()).read_bytes()[:2000])
    refusal(truncated)
