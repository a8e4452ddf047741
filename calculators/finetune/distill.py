"""Distillation: a student that learns the mean of several teachers.

Seeds of one model differ where data is thin; their mean differs less, and a student of it is one
model at the cost of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from hff_ase.calculators.finetune.student import elements_of, first_hybrid, network_of, terms_like
from hff_ase.calculators.finetune.teachers import (
    BATCH_ATOMS,
    label_frames,
    load_teachers,
)
from hff_ase.calculators.finetune.train import train
from hff_ase.calculators.finetune.uncertainty import SpreadScales, weigh
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.data.frames import frames_text, read_path
from hff_ase.errors import ConfigError
from hff_ase.files import write_whole
from hff_ase.settings import Given
from hff_ase.training.config import DISTILLING, TrainConfig
from hff_ase.training.loop.state import STATE
from hff_ase.training.loop.trainer import StopSource
from hff_ase.training.sections import AboutSection

N_BLOCKS = 20  # of consecutive frames; neighbours in a trajectory are alike
LABELS, TRAIN, VALIDATION, RUN = "labels", "train.extxyz", "validation.extxyz", "training"
CONFIG, START = "config.yaml", "start.hff"
Frames = Sequence[Atoms] | str | Path | Sequence[str | Path]


def distill(
    student: HybridFF | str | Path,
    teachers: Sequence[Any],
    frames: Frames,
    *,
    output: str | Path = "distilled",
    scales: SpreadScales | None = None,
    terms: Mapping[str, Mapping[str, Any]] | None = None,
    like: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    hold_out: float = 0.1,
    batch_atoms: int = BATCH_ATOMS,
    device: str = "cpu",
    report: Callable[[int, int], None] = lambda done, total: None,
    stop: StopSource | None = None,
) -> HybridFF:
    """Label frames with the teachers' mean, weigh them by the teachers' spread, train a student.

    The folder keeps the labels (``labels``), the frames that are trained on and held out
    (``train.extxyz``, ``validation.extxyz``) and the training (``training``, with its
    ``config.yaml``). Called again with the same arguments it continues where it stopped.

    Args:
        student: a network by name (get-small, get-smaller, ...) that gets the physical terms of
            the first teacher of this package; or a model to start from, by path or as it is.
        teachers: .hff files, names of shipped models, or any ASE calculators.
        frames: structures, or a file or folder of them; their own labels are not used.
        output: the folder.
        scales: the spread at which a label counts half; None takes the defaults.
        terms: the terms of a student with a name instead of its teacher's (see `ModelSection`).
        like: a model (name or .hff file) whose physical terms the student gets instead: teachers
            of other packages have none to give.
        settings: of the training (`TrainConfig`, without ``data`` and ``output``); in ``model``
            name, description, licence and provenance may be given.
        hold_out: the part of the frames to validate on, in blocks of consecutive ones.
        batch_atoms: atoms that teachers evaluate at once.
        device: of teachers and training.
        report: called with the numbers of frames labelled and of all.
        stop: asked between steps of the training whether a signal wants it to stop.

    Raises:
        ConfigError: a setting makes no sense, or the folder holds something else's labels or
            training.
        StructureError: a teacher cannot evaluate a frame; names it.
        StoppedError: a signal stopped the training; its state is saved.
    """
    if not 0 <= hold_out < 1:
        raise ConfigError(f"expected a part to hold out of at least 0 and below 1, got {hold_out}")
    folder = Path(output)
    structures = read_structures(frames)
    loaded = load_teachers(teachers, device)
    model = student_model(student, loaded, structures, folder, terms, like)
    config = training_config(model, folder, settings or {}, device, hold_out > 0)
    _check_model(config)
    labelled = label_frames(
        structures, loaded, folder / LABELS, batch_atoms=batch_atoms, report=report
    )
    weigh(labelled, scales or SpreadScales())
    train_on, held_out = split(labelled, hold_out)
    if hold_out > 0 and not held_out:
        raise ConfigError(f"expected enough frames to hold some out, got {len(labelled)}")
    if isinstance(student, HybridFF):
        student.save(folder / START, sorted(structures, key=len)[:1])
    trained_before = (folder / RUN / STATE).exists()
    for name, part in ((TRAIN, train_on), (VALIDATION, held_out)):
        if part:
            _write_same(folder / name, frames_text(part), trained_before)
    return train(config, resume=trained_before, stop=stop)


def student_model(
    student: HybridFF | str | Path,
    teachers: Sequence[Any],
    frames: Sequence[Atoms],
    folder: Path,
    terms: Mapping[str, Mapping[str, Any]] | None = None,
    like: str | Path | None = None,
) -> dict[str, Any]:
    """The model section of a training of this student.

    Raises:
        ConfigError: no such student, or terms for one that is started from a model.
    """
    started = isinstance(student, HybridFF) or str(student).endswith(".hff")
    if started:
        if terms is not None or like is not None:
            raise ConfigError("expected terms only for a student by name, got a model to start")
        path = folder / START if isinstance(student, HybridFF) else student
        return {"start": str(Path(path).resolve())}
    network = network_of(str(student))
    save_as: Mapping[str, Any] = {}
    if terms is None:
        physics = None if like is None else HybridFF.load(like).potential
        terms, save_as = terms_like(physics or first_hybrid(teachers), network)
    section: dict[str, Any] = {"elements": elements_of(frames, teachers), "terms": dict(terms)}
    return section | ({"save_as": dict(save_as)} if save_as else {})


def training_config(
    model: Mapping[str, Any],
    folder: Path,
    settings: Mapping[str, Any],
    device: str = "cpu",
    validate: bool = True,
) -> TrainConfig:
    """The whole configuration of the training in a folder.

    Raises:
        ConfigError: a setting that is unknown or that is not the user's to choose.
    """
    given = Given.of(settings)
    for key in ("data", "output"):
        if key in given:
            raise ConfigError(f"expected settings without {key}, which is given by distillation")
    described = AboutSection.load(given.get("model", {})).model_dump(exclude_unset=True)
    given = given.over(DISTILLING, TrainConfig)
    # Labels hold the dispersion of the teachers, whatever that is. All of them come from here: a
    # frame with large forces is a hot one, not one in another unit.
    data: dict[str, Any] = {
        "train": [str(folder / TRAIN)], "dispersion": "as_is", "check": False,
    }  # fmt: skip
    if validate:
        data["validation"] = [str(folder / VALIDATION)]
    made = {"model": {**described, **model}, "data": data, "output": str(folder / RUN)}
    return TrainConfig.load(Given(made).over(given.over({"device": device})))


def split(frames: Sequence[Atoms], hold_out: float) -> tuple[list[Atoms], list[Atoms]]:
    """Frames to train on, and to validate on: every so many-th block of consecutive frames."""
    if hold_out == 0:
        return list(frames), []
    length = max(1, len(frames) // N_BLOCKS)
    train_on: list[Atoms] = []
    held_out: list[Atoms] = []
    for index, atoms in enumerate(frames):
        block = index // length
        # a block is held out whenever another whole one is due
        due = int((block + 1) * hold_out + 0.5) > int(block * hold_out + 0.5)
        (held_out if due else train_on).append(atoms)
    return train_on, held_out


def read_structures(frames: Frames) -> list[Atoms]:
    """Structures as they are given, or of files and folders.

    Raises:
        StructureError: a file cannot be read.
        ConfigError: there are none.
    """
    given = [frames] if isinstance(frames, (str, Path)) else list(frames)
    found: list[Atoms] = []
    for entry in given:
        if isinstance(entry, Atoms):
            found.append(entry)
        else:
            found += [atoms for of_file in read_path(entry) for atoms in of_file]
    if not found:
        raise ConfigError("expected frames to distil on, got none")
    return found


def _write_same(path: Path, text: str, trained_before: bool) -> None:
    """Write the frames of a training; one that has begun continues only with the same."""
    if trained_before and path.exists() and path.read_text() != text:
        raise ConfigError(
            f"expected the frames and weights of the training in {path.parent / RUN}, got others: "
            "remove that folder or choose another output"
        )
    write_whole(path, text.encode())


def _check_model(config: TrainConfig) -> None:
    """Refuse another model than that of a training that has begun."""
    folder = Path(config.output)
    if (folder / STATE).exists() and TrainConfig.load(folder / CONFIG).model != config.model:
        raise ConfigError(
            f"expected the model of the training in {folder}, got another: remove that folder or "
            "choose another output"
        )
