"""Model files: a round trip to the bit, and every way in which a file can be wrong."""

from __future__ import annotations

import errno
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from core_models import VARIANTS, hybrid
from safetensors import safe_open
from safetensors.torch import save_file

import hff_ase.testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.checkpoint import ModelInfo, load_model, save_model
from hff_ase.errors import CheckpointError
from hff_ase.model_file import FORMAT_VERSION, digest
from hff_ase.potential import HybridPotential

INFO = ModelInfo(
    "small",
    description="random weights",
    licence="none",
    provenance="a test",
    trained_with=("short_range", "coulomb"),
    details={"loss": [1.0, 0.5], "nested": {"a": None}},
)
REFERENCES = [checks.cluster("H4C2O", seed=1), checks.ionic_box("Li2F2HO", charge=1.0, seed=2)]
Contents = tuple[dict[str, Any], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.hff"
    save_model(path, hybrid(), INFO, REFERENCES)
    return path


def contents(path: Path) -> Contents:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["hff"]), tensors


def rewrite(path: Path, description: Any, tensors: dict[str, torch.Tensor]) -> Path:
    """A file with a digest that is right for its changed contents, as a forger would write it."""
    text = json.dumps(description)
    save_file(tensors, path, metadata={"hff": text, "sha256": digest(text, tensors)})
    return path


def refusal(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("expected")
    assert path.name in message
    return message


@pytest.mark.parametrize("name", list(VARIANTS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_to_the_bit(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Weights, results and description; float64 weights are not rounded on the way either."""
    potential = VARIANTS[name]().set_dtype(dtype)
    if dtype == torch.float64:
        with torch.no_grad():
            for parameter in potential.parameters():
                parameter.mul_(1.0 + 1e-12 * torch.randn_like(parameter))
    path = tmp_path / "model.hff"
    save_model(path, potential, INFO, REFERENCES)
    loaded, info = load_model(path, dtype)
    assert info == INFO
    assert loaded.elements == potential.elements
    weights = potential.state_dict()
    assert loaded.state_dict().keys() == weights.keys()
    for key, value in loaded.state_dict().items():
        assert value.dtype == weights[key].dtype, key
        assert torch.equal(value, weights[key]), key
    batch = AtomsBatch.from_atoms([*REFERENCES, *checks.sample_structures().values()])
    before, after = potential(batch), loaded(batch)
    assert torch.equal(before.energy, after.energy)
    assert torch.equal(before.forces, after.forces)  # type: ignore[arg-type]
    assert torch.equal(before.stress, after.stress)  # type: ignore[arg-type]
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_model_saved_twice_has_the_same_contents(original: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.hff"
    potential, info = load_model(original)
    save_model(again, potential, info, REFERENCES)
    one, two = contents(original), contents(again)
    assert one[0] == two[0]
    assert one[1].keys() == two[1].keys()
    assert all(torch.equal(value, two[1][name]) for name, value in one[1].items())


def test_float32_weights_load_into_float64(original: Path) -> None:
    potential, _ = load_model(original, torch.float64)
    assert potential.terms["short_range"].energy[-1].weight.dtype == torch.float64


def test_references_are_needed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="at least one reference"):
        save_model(tmp_path / "model.hff", hybrid(), INFO, [])
    assert not list(tmp_path.iterdir())


# ---- files that are no models


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no file at" in refusal(tmp_path / "nothing.hff")
    (tmp_path / "folder.hff").mkdir()
    assert "no file at" in refusal(tmp_path / "folder.hff")


@pytest.mark.parametrize("keep", [0, 5, 8, 300, -1, -1000])
def test_truncated_file(original: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "short.hff"
    path.write_bytes(original.read_bytes()[:keep])
    refusal(path)


def test_a_header_that_claims_a_huge_size(tmp_path: Path) -> None:
    path = tmp_path / "huge.hff"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    refusal(path)


def test_safetensors_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "other.hff"
    save_file({"a": torch.zeros(2)}, path)
    assert "safetensors" in refusal(path)
    save_file({"a": torch.zeros(2)}, path, metadata={"format": "pt"})
    refusal(path)


class Bomb:
    """Unpickling this writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.target, "executed")


@pytest.mark.parametrize("how", ["pickle", "torch.save"])
def test_a_pickle_in_disguise_is_refused_and_not_executed(how: str, tmp_path: Path) -> None:
    path, target = tmp_path / "model.hff", tmp_path / "executed"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Bomb(target)))
    else:
        torch.save({"weights": Bomb(target)}, path)
    refusal(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))
    assert target.exists()  # it would have worked


# ---- tampered with, the digest left as it was


def with_old_digest(original: Path, path: Path, description: Any, tensors: Any) -> Path:
    with safe_open(original, framework="pt") as file:
        metadata = dict(file.metadata())
    if description is not None:
        metadata["hff"] = json.dumps(description, indent=1)
    save_file(tensors, path, metadata=metadata)
    return path


def test_changed_weight_is_noticed(original: Path, tmp_path: Path) -> None:
    _, tensors = contents(original)
    name = "weights.terms.short_range.energy.0.weight"
    tensors[name][0, 0] += 1e-7
    assert "SHA-256" in refusal(with_old_digest(original, tmp_path / "a.hff", None, tensors))


def test_changed_description_is_noticed(original: Path, tmp_path: Path) -> None:
    description, tensors = contents(original)
    description["info"]["licence"] = "another"
    path = with_old_digest(original, tmp_path / "a.hff", description, tensors)
    assert "SHA-256" in refusal(path)


def test_changed_or_missing_digest_is_noticed(original: Path, tmp_path: Path) -> None:
    description, tensors = contents(original)
    for metadata in ({"sha256": "0" * 64}, {}):
        path = tmp_path / "a.hff"
        save_file(tensors, path, metadata={"hff": json.dumps(description), **metadata})
        assert "SHA-256" in refusal(path)


def test_renamed_and_reshaped_tensors_are_noticed(original: Path, tmp_path: Path) -> None:
    _, tensors = contents(original)
    first, second = "reference.0.positions", "reference.0.forces"
    swapped = {**tensors, first: tensors[second], second: tensors[first]}
    assert "SHA-256" in refusal(with_old_digest(original, tmp_path / "a.hff", None, swapped))
    flat = {**tensors, first: tensors[first].reshape(-1)}
    assert "SHA-256" in refusal(with_old_digest(original, tmp_path / "b.hff", None, flat))


def test_every_flipped_byte_is_noticed(original: Path, tmp_path: Path) -> None:
    content = original.read_bytes()
    path = tmp_path / "flipped.hff"
    for position in torch.linspace(0, len(content) - 1, 40).long().tolist():
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        refusal(path)


def test_a_type_that_numpy_does_not_know_is_noticed(original: Path, tmp_path: Path) -> None:
    _, tensors = contents(original)
    tensors["extra"] = torch.zeros(2, dtype=torch.bfloat16)
    assert "SHA-256" in refusal(with_old_digest(original, tmp_path / "a.hff", None, tensors))


# ---- forged: changed, with a digest that fits


def test_weights_that_do_not_give_the_stored_results_are_caught(
    original: Path, tmp_path: Path
) -> None:
    description, tensors = contents(original)
    tensors["weights.terms.short_range.energy.2.bias"] += 0.01
    assert "eV/atom" in refusal(rewrite(tmp_path / "a.hff", description, tensors))
    loaded, _ = load_model(tmp_path / "a.hff", verify=False)  # so that was the only objection
    assert isinstance(loaded, HybridPotential)


def test_a_changed_config_is_caught_by_the_stored_results(original: Path, tmp_path: Path) -> None:
    description, tensors = contents(original)
    for term in description["terms"]:
        if term["kind"] == "bamboo_dispersion":
            term["config"]["s6"] *= 1.1
    assert "eV/atom" in refusal(rewrite(tmp_path / "a.hff", description, tensors))


def test_results_that_are_not_numbers_are_caught(original: Path, tmp_path: Path) -> None:
    description, tensors = contents(original)
    tensors["reference.1.forces"][0, 0] = float("nan")
    refusal(rewrite(tmp_path / "a.hff", description, tensors))


def test_newer_format(original: Path, tmp_path: Path) -> None:
    description, tensors = contents(original)
    description |= {"format_version": FORMAT_VERSION + 1, "package_version": "99.0"}
    message = refusal(rewrite(tmp_path / "a.hff", description, tensors))
    assert "99.0" in message
    assert "update" in message


def change(where: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def apply(description: dict[str, Any]) -> Any:
        target: Any = description
        *path, last = where.split(".")
        for key in path:
            target = target[int(key)] if key.isdigit() else target[key]
        if value is ...:
            del target[last]
        else:
            target[last] = value
        return description

    return apply


@pytest.mark.parametrize(
    ("how", "word"),
    [
        (change("terms.0.kind", "magic"), "magic"),
        (change("terms.0.kind", "os.system"), "os.system"),
        (change("terms.0.kind", ["a"]), ""),
        (change("terms.0.kind", ...), ""),
        (change("terms.0.config", {"unknown": 1}), "unknown"),
        (change("terms.0.config", []), ""),
        (change("terms.0.config.options.heads", 5), "heads"),
        (change("terms.0.config.options.channels", "many"), ""),
        (change("terms.0.config.elements", ["H", "Xx"]), "Xx"),
        (change("terms.2.config.tolerance", 7.0), "tolerance"),
        (change("terms.2.config.method", "guess"), "guess"),
        (change("terms.0.name", "a.b"), ""),
        (change("terms", []), ""),
        (change("terms", None), ""),
        (change("terms", 3), ""),
        (change("elements", ["H", "Xx"]), ""),
        (change("elements", 5), ""),
        (change("info", ...), ""),
        (change("info", None), ""),
        (change("info.trained_with", 3), ""),
        (change("info.colour", "red"), "colour"),
        (change("n_references", 0), ""),
        (change("n_references", 3), ""),
        (change("n_references", "two"), ""),
        (change("n_references", ...), ""),
        (change("format_version", "x"), ""),
        (change("format_version", ...), ""),
        (lambda description: [], ""),
        (lambda description: "text", ""),
        (lambda description: None, ""),
    ],
)
def test_forged_description(
    original: Path, tmp_path: Path, how: Callable[[dict[str, Any]], Any], word: str
) -> None:
    description, tensors = contents(original)
    assert word in refusal(rewrite(tmp_path / "a.hff", how(description), tensors))


def without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name) and None


def replaced(name: str, value: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.__setitem__(name, value)


@pytest.mark.parametrize(
    "how",
    [
        without("weights.terms.short_range.energy.0.weight"),
        without("reference.0.positions"),
        without("reference.1.energy"),
        replaced("weights.terms.short_range.energy.0.weight", torch.zeros(2, 2)),
        replaced("weights.extra", torch.zeros(2)),
        replaced("reference.0.positions", torch.zeros(3)),
        replaced("reference.0.positions", torch.zeros(2, 3, dtype=torch.float64)),
        replaced("reference.0.numbers", torch.full((7,), 999)),
        replaced("reference.0.numbers", torch.full((7,), -1)),
        replaced("reference.0.cell", torch.zeros(1, 3, 3, dtype=torch.float64)),
        replaced("reference.1.cell", torch.zeros(1, 3, 3, dtype=torch.float64)),
        replaced("reference.1.cell", torch.full((1, 3, 3), float("nan"), dtype=torch.float64)),
        replaced("reference.0.forces", torch.zeros(0, 3)),
    ],
)
def test_forged_tensors(
    original: Path, tmp_path: Path, how: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    description, tensors = contents(original)
    how(tensors)
    path = rewrite(tmp_path / "a.hff", description, tensors)
    if "reference.0.cell" in tensors and not tensors["reference.0.cell"].any():
        load_model(path)  # the cell of a molecule means nothing
        return
    refusal(path)


# ---- writing


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        save_model(tmp_path / "nowhere" / "model.hff", hybrid(), INFO, REFERENCES)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.hff"
    path.write_bytes(original.read_bytes())
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match="Permission"):
            save_model(path, hybrid(seed=1), INFO, REFERENCES)
    finally:
        tmp_path.chmod(0o700)
    load_model(path)


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "builtins.open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_failed_write_leaves_the_old_file(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """A full disk, say: the model that was there still is, and nothing else."""
    path = tmp_path / "model.hff"
    path.write_bytes(original.read_bytes())
    potential = hybrid(seed=1)

    def fail(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(call, fail)
    with pytest.raises(CheckpointError) as caught:
        save_model(path, potential, INFO, REFERENCES)
    monkeypatch.undo()
    assert os.strerror(code) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == original.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["model.hff"]


def test_an_interrupt_leaves_the_old_file(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.hff"
    path.write_bytes(original.read_bytes())
    potential = hybrid(seed=1)

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_model(path, potential, INFO, REFERENCES)
    monkeypatch.undo()
    assert path.read_bytes() == original.read_bytes()
