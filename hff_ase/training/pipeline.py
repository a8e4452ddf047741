"""The one way from a configuration to a trained potential; `hff train`, fine-tuning, training from
scratch and distillation are configurations of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from rich.console import Console

from hff_ase.checkpoint import ModelInfo
from hff_ase.data.counts import described
from hff_ase.data.dataset import DatabaseDataset, Dataset, MemoryDataset
from hff_ase.data.doubts import leak
from hff_ase.domain import Domain
from hff_ase.errors import ConfigError, HFFWarning
from hff_ase.files import write_whole
from hff_ase.potential import HybridPotential
from hff_ase.precision import on_usual_device
from hff_ase.training.adapt import complete_labels, merge, training_frames
from hff_ase.training.adapt.fixed import split_fixed
from hff_ase.training.config import DataSection, ModelSection, TrainConfig
from hff_ase.training.domain import atoms_of, domain_of_dataset
from hff_ase.training.elements import check_frames_known
from hff_ase.training.frames_of import Split, check_by_method, read_split
from hff_ase.training.identity import (
    claim,
    digest_of_database,
    digest_of_frames,
    identity_of,
)
from hff_ase.training.loop.distributed import device_of_process, processes
from hff_ase.training.loop.trainer import StopSource, Trainer
from hff_ase.training.model import Start, adaptation, build, check_save_as, in_training, shipped
from hff_ase.training.references import set_references

LARGEST_REFERENCE = 1000  # atoms; what is stored with a model is recomputed whenever it is loaded
FINAL = ("energy", "forces", "stress", "charges", "dipole", "esp")


@dataclass
class Prepared:
    """Input of a trainer, and the whole potential that it is part of.

    Attributes:
        model: what is trained.
        whole: every term; trainable: those that are trained; fixed: the others, if any.
        start: the model before, where there is one.
        train, validation: labelled frames, with the contribution of fixed terms subtracted.
        labels: what is known of the frames' labels, in words.
        replayed: how many of the frames are old ones.
        digest: of the frames as they were given.
    """

    model: ModelSection
    whole: HybridPotential
    trainable: HybridPotential
    fixed: HybridPotential | None
    start: Start | None
    train: Dataset = field(default_factory=lambda: MemoryDataset([]))
    validation: Dataset | None = None
    labels: list[str] = field(default_factory=list)
    replayed: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        potential: whole, plain, frozen, in evaluation mode, on the CPU.
        info: what it is.
        reference: a structure to store with it.
        first: whether this process is the one that writes.
    """

    potential: HybridPotential
    info: ModelInfo
    reference: Atoms
    first: bool


@on_usual_device
def run(
    config: TrainConfig,
    *,
    start: Start | None = None,
    frames: Split | None = None,
    resume: bool = False,
    stop: StopSource | None = None,
) -> Trained:
    """Run the training of a configuration.

    Args:
        config: with a section ``model`` and, without ``frames``, a section ``data``.
        start: the model to start from instead of reading ``model.start``.
        frames: to train and to validate on instead of reading them.
        resume: continue the run in the output folder.
        stop: asked after every step whether a signal wants the run to stop.

    Raises:
        ConfigError: a setting makes no sense, or the output folder holds a run already, or to
            resume, another one.
        StructureError: a frame cannot be used; names file and frame.
        StoppedError: a signal stopped the run; its state is saved.
    """
    folder = Path(config.output)
    with processes(device_of_process(config.device)) as group:
        claim(folder, None, resume)  # what a folder holds is reported before anything is read
        prepared = prepare(config, start=start, frames=frames)
        if group.first:
            identity = identity_of(config, prepared.start, prepared.digest)
            claim(folder, identity, resume)
            _write_settings(folder, config, prepared)
        parts = (prepared.trainable, prepared.train, prepared.validation)
        trainer = Trainer(*parts, config, processes=group, stop=stop)
        trained = merge(trainer.run())
        potential = shipped(prepared.whole, trained, prepared.model).to("cpu")
        info = _info(prepared, trainer, config)
        return Trained(potential, info, _reference(prepared.train), group.first)


@on_usual_device
def prepare(
    config: TrainConfig, *, start: Start | None = None, frames: Split | None = None
) -> Prepared:
    """Build the model, read and check the data, take what is fixed off the labels, and give the
    part that is trained its reference energies.

    Args, raises: as `run`.
    """
    model, data = config.model, config.data
    if model is None or (data is None and frames is None):
        missing = "model" if model is None else "data"
        raise ConfigError(f"expected a section {missing!r}, got none")
    data = data or DataSection(train=())
    whole, start = build(model, config.seed, start)
    check_save_as(model, [name for name, _ in whole.named_terms()])
    trainable, fixed = split_fixed(whole)
    prepared = Prepared(model, whole, in_training(trainable, model), fixed, start)
    if data.in_memory:
        new, held_out = read_split(data, config.seed) if frames is None else frames
        with_frames(prepared, data, new, held_out)
    else:
        prepared.train = database = _database(data.train, fixed)
        prepared.validation = _database(data.validation, fixed) if data.validation else None
        prepared.digest = digest_of_database(database)
    set_references(prepared.trainable, prepared.train, model, data)
    return prepared


def with_frames(
    prepared: Prepared, data: DataSection, new: Sequence[Atoms], held_out: Sequence[Atoms]
) -> None:
    """Put frames, checked and completed, into what is prepared."""
    whole, start, adapt = prepared.whole, prepared.start, adaptation(prepared.model)
    check_frames_known(whole, [*new, *held_out])
    if data.check:
        check_by_method([*new, *held_out])
        if message := leak(held_out, new, "validation"):
            warnings.warn(message, HFFWarning, stacklevel=2)
    if adapt is not None and start is not None:
        used, mode = training_frames(new, start.potential, whole, adapt), adapt.dispersion
        check_frames_known(whole, used)  # what is replayed as well
    else:
        used, mode = complete_labels(new, whole, data.dispersion), data.dispersion
    tested = complete_labels(held_out, whole, mode)
    prepared.labels = [f"train: {described(used)}"]
    prepared.labels += [f"validation: {described(tested)}"] if tested else []
    prepared.train = MemoryDataset.from_atoms(used, prepared.fixed)
    prepared.validation = MemoryDataset.from_atoms(tested, prepared.fixed) if tested else None
    prepared.replayed = max(len(used) - len(new), 0)
    prepared.digest = digest_of_frames(new, held_out)


def _database(paths: Sequence[str], fixed: HybridPotential | None) -> DatabaseDataset:
    if len(paths) != 1:
        raise ConfigError(
            f"data.in_memory: expected one database where it is false, got {len(paths)} paths"
        )
    return DatabaseDataset(paths[0], fixed)


def _write_settings(folder: Path, config: TrainConfig, prepared: Prepared) -> None:
    """The resolved configuration, and what the frames' labels are."""
    write_whole(folder / "config.yaml", config.to_yaml().encode())
    if prepared.labels:
        text = "\n".join(prepared.labels)
        write_whole(folder / "labels.txt", f"{text}\n".encode())
        if config.logging.progress:
            Console(stderr=True, highlight=False).print(text, soft_wrap=True)


def _info(prepared: Prepared, trainer: Trainer, config: TrainConfig) -> ModelInfo:
    last = trainer.rows[-1] if trainer.rows else {}
    model, before = prepared.model, None if prepared.start is None else prepared.start.info
    settings = config.model_dump(mode="json", exclude={"output", "logging", "data"})
    settings["model"]["adapt"] = model.adapt.model_dump(mode="json", exclude_defaults=True)
    if model.start is not None:  # a model goes to others: no paths of this machine
        settings["model"]["start"] = Path(model.start).name
    details: dict[str, Any] = {
        "settings": settings,
        "validation": {f"{p}_rmse": last[f"{p}_rmse"] for p in FINAL if f"{p}_rmse" in last},
        "frames": {
            "train": len(prepared.train),
            "validation": len(prepared.validation) if prepared.validation is not None else 0,
        },
        "steps": trainer.step,
    }
    if prepared.replayed:
        details["frames"]["replayed"] = prepared.replayed
    if before is not None:
        details["start"] = {
            "name": before.name,
            "provenance": before.provenance,
            "details": before.details,
        }
    return ModelInfo(
        name=model.name,
        description=model.description,
        licence=model.licence or (before.licence if before else ""),
        provenance=model.provenance or (f"trained further from {before.name}" if before else ""),
        trained_with=tuple(name for name, _ in prepared.whole.named_terms()),
        domain=_domain(prepared),
        details=details,
    )


def _domain(prepared: Prepared) -> Domain | None:
    """The domain of the frames, joined with that of the start; None if unknown."""
    before = None if prepared.start is None else prepared.start.info.domain
    if prepared.start is not None and before is None:
        return None
    found = domain_of_dataset(prepared.train)
    return found if before is None or found is None else before.joined(found)


def _reference(dataset: Dataset) -> Atoms:
    """The smallest frame with more than one atom, as a structure to store with the model."""
    sizes = np.where(dataset.n_atoms > 1, dataset.n_atoms, LARGEST_REFERENCE)
    return atoms_of(dataset[int(np.argmin(sizes))][0])
