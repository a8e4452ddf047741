"""A whole training from its configuration: data, model, loop, saved result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from rich.console import Console

from hff_ase.batch import AtomsBatch
from hff_ase.checkpoint import ModelInfo
from hff_ase.data.counts import described
from hff_ase.data.dataset import DatabaseDataset, Dataset, MemoryDataset
from hff_ase.data.labels import source_of
from hff_ase.errors import ConfigError, StructureError
from hff_ase.files import write_whole
from hff_ase.potential import HybridPotential
from hff_ase.terms import ShortRange
from hff_ase.training.adapt import complete_labels, merge, training_frames
from hff_ase.training.adapt.fixed import split_fixed
from hff_ase.training.adapt.references import refit_references
from hff_ase.training.config import DataSection, ModelSection, TrainConfig
from hff_ase.training.frames_of import read_split
from hff_ase.training.loop.distributed import Processes, device_of_process, processes
from hff_ase.training.loop.state import STATE
from hff_ase.training.loop.trainer import StopSource, Trainer
from hff_ase.training.model import adaptation, build, check_save_as, in_training, shipped
from hff_ase.training.references import fit_reference_energies

if TYPE_CHECKING:
    from hff_ase.calculators import HybridFF

LARGEST_REFERENCE = 1000  # atoms; what is stored with a model is recomputed whenever it is loaded
FINAL = ("energy", "forces", "stress", "charges", "dipole", "esp")


@dataclass(frozen=True)
class Prepared:
    """What a trainer is given, and the whole potential that it is a part of."""

    whole: HybridPotential
    trainable: HybridPotential
    train: Dataset
    validation: Dataset | None
    start: ModelInfo | None
    labels: tuple[str, ...] = ()  # what is known of the frames' labels, in words


def train_from_config(
    config: TrainConfig | Mapping[str, Any] | str | Path,
    *,
    resume: bool = False,
    stop: StopSource | None = None,
) -> HybridFF:
    """See `hff_ase.training.train`."""
    config = TrainConfig.of(config)
    model, data = config.model, config.data
    if model is None or data is None:
        missing = "model" if model is None else "data"
        raise ConfigError(f"expected a section {missing!r}, got none")
    folder = Path(config.output)
    if (folder / STATE).exists() and not resume:
        raise ConfigError(
            f"expected an empty output folder, got a training in {folder}: continue it with "
            "--resume (resume=True) or choose another"
        )
    with processes(device_of_process(config.precision.device)) as group:
        prepared = prepare(config, model, data)
        if group.first:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / "config.yaml", config.to_yaml().encode())
            if prepared.labels:
                text = "\n".join(prepared.labels)
                write_whole(folder / "labels.txt", f"{text}\n".encode())
                if config.logging.progress:
                    Console(stderr=True, highlight=False).print(text, soft_wrap=True)
        trainer = Trainer(
            prepared.trainable,
            prepared.train,
            prepared.validation,
            config,
            processes=group,
            stop=stop,
        )
        trained = merge(trainer.run())
        return _result(prepared, trained, trainer, config, model, group)


def prepare(config: TrainConfig, model: ModelSection, data: DataSection) -> Prepared:
    """Read the data, build the model, and take what is fixed off the labels."""
    whole, start = build(model, config.seed)
    check_save_as(model, [name for name, _ in whole.named_terms()])
    trainable, fixed = split_fixed(whole)
    trainable = in_training(trainable, model)
    labels: tuple[str, ...] = ()
    validation: Dataset | None = None
    train: Dataset
    if data.in_memory:
        frames, held_out = read_split(data, config.seed)
        adapt, mode = adaptation(model), data.dispersion
        if adapt is not None and start is not None:
            mode = adapt.dispersion
            frames = training_frames(frames, start.potential, whole, adapt)
        else:
            frames = complete_labels(frames, whole, mode)
        held_out = complete_labels(held_out, whole, mode)
        check_elements(whole, [*frames, *held_out])
        labels = (f"train: {described(frames)}",)
        labels += (f"validation: {described(held_out)}",) if held_out else ()
        train = MemoryDataset.from_atoms(frames, fixed)
        validation = MemoryDataset.from_atoms(held_out, fixed) if held_out else None
    else:
        train = _database(data.train, fixed)
        validation = _database(data.validation, fixed) if data.validation else None
    set_references(trainable, train, model, data)
    info = None if start is None else start.info
    return Prepared(whole, trainable, train, validation, info, labels)


def set_references(
    potential: HybridPotential, train: Dataset, model: ModelSection, data: DataSection
) -> None:
    """Give the network its reference energies per element, by least squares or as given.

    Raises:
        ConfigError: energies for elements that the model does not know, or no network to have them.
    """
    wanted, adapt = data.reference_energies, adaptation(model)
    if adapt is not None:
        if adapt.refit_references or adapt.add_elements:
            added = None if adapt.refit_references else list(adapt.add_elements)
            refit_references(potential, train, added)
        return
    terms = [term for _, term in potential.named_terms() if isinstance(term, ShortRange)]
    if wanted == "keep" or not terms:
        return
    reference, elements = terms[0].reference_energy, terms[0].species.elements
    if isinstance(wanted, dict):
        unknown = sorted(set(wanted) - set(elements))
        if unknown:
            raise ConfigError(
                f"data.reference_energies: expected elements among {' '.join(elements)}, got "
                f"{unknown[0]}"
            )
        values = torch.tensor([wanted.get(symbol, 0.0) for symbol in elements])
    else:
        numbers = [atomic_numbers[symbol] for symbol in elements]
        values = fit_reference_energies(train, numbers, isolated=wanted == "isolated")
    with torch.no_grad():
        reference.copy_(values)


def check_elements(potential: HybridPotential, frames: Sequence[Atoms]) -> None:
    """Refuse frames with an element that the model does not know.

    Raises:
        StructureError: names elements and frame.
    """
    known = set(potential.elements or chemical_symbols)
    for atoms in frames:
        unknown = sorted(set(atoms.symbols) - known)
        if unknown:
            raise StructureError(
                f"expected the elements of the model, {' '.join(potential.elements or ())}, got "
                f"{' '.join(unknown)} in frame {source_of(atoms)}"
            )


def _database(paths: Sequence[str], fixed: HybridPotential | None) -> DatabaseDataset:
    if len(paths) != 1:
        raise ConfigError(
            f"data.in_memory: expected one database where it is false, got {len(paths)} paths"
        )
    return DatabaseDataset(paths[0], fixed)


def _result(
    prepared: Prepared,
    trained: HybridPotential,
    trainer: Trainer,
    config: TrainConfig,
    model: ModelSection,
    group: Processes,
) -> HybridFF:
    """The calculator of the trained model, saved by the first process."""
    from hff_ase.calculators import HybridFF

    potential = shipped(prepared.whole, trained, model)
    info = _info(prepared, trainer, config, model)
    device = str(trainer.device)
    calc = HybridFF(potential, info, device="cpu", dtype=config.precision.networks)
    if group.first:
        calc.save(Path(config.output) / "model.hff", [_reference(prepared.train)])
    if device == "cpu":
        return calc
    return HybridFF(potential, info, device=device, dtype=config.precision.networks)


def _info(
    prepared: Prepared, trainer: Trainer, config: TrainConfig, model: ModelSection
) -> ModelInfo:
    last = trainer.rows[-1] if trainer.rows else {}
    errors = {f"{p}_rmse": last[f"{p}_rmse"] for p in FINAL if f"{p}_rmse" in last}
    start = prepared.start
    settings = config.model_dump(mode="json", exclude={"output", "logging", "data"})
    if model.start is not None:  # a model goes to others: no paths of this machine
        settings["model"]["start"] = Path(model.start).name
    details: dict[str, Any] = {
        "settings": settings,
        "validation": errors,
        "frames": {
            "train": len(prepared.train),
            "validation": len(prepared.validation) if prepared.validation is not None else 0,
        },
        "steps": trainer.step,
    }
    if start is not None:
        details["start"] = {"name": start.name, "provenance": start.provenance}
    return ModelInfo(
        name=model.name,
        description=model.description,
        licence=model.licence or (start.licence if start else ""),
        provenance=model.provenance or (f"trained further from {start.name}" if start else ""),
        trained_with=tuple(name for name, _ in prepared.whole.named_terms()),
        details=details,
    )


def _reference(dataset: Dataset) -> Atoms:
    """The smallest frame with more than one atom, as a structure to store with the model."""
    sizes = np.where(dataset.n_atoms > 1, dataset.n_atoms, LARGEST_REFERENCE)
    batch: AtomsBatch = dataset[int(np.argmin(sizes))][0]
    periodic = bool(batch.periodic[0])
    return Atoms(
        numbers=batch.numbers.numpy(),
        positions=batch.positions.numpy(),
        cell=batch.cell[0].numpy() if periodic else None,
        pbc=periodic,
        info={"charge": float(batch.charge[0])},
    )
