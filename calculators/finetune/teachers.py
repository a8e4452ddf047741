"""Labels from teachers: their mean, and how far they agree, kept on disk as they are made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from hff_ase.calculators.committee import (
    Committee,
    Results,
    evaluate_each,
    mean_of,
    spread_of,
)
from hff_ase.calculators.factories import SOURCE, make_calculator, names_factory
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.data.frames import frames_text, read_frames
from hff_ase.data.splits import chunks
from hff_ase.errors import ConfigError, StructureError
from hff_ase.files import write_whole
from hff_ase.model_file import digest
from hff_ase.structures import total_charge

BATCH_ATOMS = 2000  # in one pass of the teachers
KEPT = ("charge", "name", "step", "time_ps", "weight", "system")  # of a frame's own info
LABELS = ("energy", "forces", "stress", "charges", "dipole")
FINGERPRINT, MERGED, PARTS = "labels.json", "labels.extxyz", "parts"


def load_teachers(teachers: Sequence[Any], device: str = "cpu") -> list[Any]:
    """Teachers as calculators: names and .hff files are loaded, factories of other calculators
    (`hff_ase.calculators.factories`) called, calculators taken as they are.

    Raises:
        ConfigError: none are given, or something that is neither.
        CheckpointError: a file cannot be read.
    """
    loaded = []
    for teacher in teachers:
        if isinstance(teacher, str) and names_factory(teacher):
            teacher = make_calculator(teacher)
        elif isinstance(teacher, (str, Path)):
            teacher = HybridFF.load(teacher, device=device)
        if "forces" not in getattr(teacher, "implemented_properties", ()):
            raise ConfigError(
                f"expected .hff files or ASE calculators as teachers, got {teacher!r:.60}"
            )
        loaded.append(teacher)
    if not loaded:
        raise ConfigError("expected at least one teacher, got none")
    return loaded


def identity(teacher: Any) -> str:
    """What tells a teacher from others: weights and terms, or class, parameters and factory."""
    if isinstance(teacher, HybridFF):
        terms = {name: [t.kind, t.config()] for name, t in teacher.potential.named_terms()}
        weights = {k: v.detach().cpu() for k, v in teacher.potential.state_dict().items()}
        return digest(json.dumps([terms, teacher.dtype]), weights)
    kind = type(teacher)
    parameters = json.dumps(dict(getattr(teacher, "parameters", {})), default=str, sort_keys=True)
    made_by = getattr(teacher, SOURCE, "")
    return f"{kind.__module__}.{kind.__qualname__} {parameters} {made_by}".strip()


def fingerprint(frames: Sequence[Atoms], teachers: Sequence[Any]) -> dict[str, Any]:
    """What labels depend on, JSON-able."""
    sha = hashlib.sha256()
    for atoms in frames:
        for array in (atoms.numbers, atoms.positions, np.array(atoms.cell), atoms.pbc):
            sha.update(np.ascontiguousarray(array).tobytes())
        sha.update(str(total_charge(atoms)).encode())
    return {
        "n_frames": len(frames),
        "frames": sha.hexdigest(),
        "teachers": [identity(teacher) for teacher in teachers],
    }


def label_frames(
    frames: Sequence[Atoms],
    teachers: Sequence[Any],
    folder: Path,
    *,
    batch_atoms: int = BATCH_ATOMS,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Atoms]:
    """Frames with the teachers' mean as labels; what is on disk already is not computed again.

    The results of each batched pass are written whole; a run that is killed loses one pass. Each
    frame holds ``info["teacher_energies"]`` (eV), and with several teachers ``stress_spread``
    (eV/A^3) in its info and ``forces_spread`` (eV/A) and ``charges_spread`` (e) in its arrays: see
    `hff_ase.calculators.spread.Spread`.

    Args:
        frames: structures; labels that they hold are left aside.
        teachers: calculators, see `load_teachers`.
        folder: where labels are kept.
        batch_atoms: atoms in one pass.
        report: called with the numbers of frames labelled and of all.

    Raises:
        ConfigError: no frames, or the folder holds labels of other frames or teachers.
        StructureError: a teacher cannot evaluate a frame; names it.
    """
    if not frames:
        raise ConfigError("expected frames to label, got none")
    folder.mkdir(parents=True, exist_ok=True)
    _check_fingerprint(folder, fingerprint(frames, teachers))
    if (folder / MERGED).exists():
        return read_frames(folder / MERGED)
    parts = folder / PARTS
    parts.mkdir(exist_ok=True)
    labelled: list[Atoms] = []
    while (path := _part(parts, len(labelled))).exists():
        labelled += read_frames(path)
    for chunk in chunks(frames[len(labelled) :], batch_atoms):
        done = len(labelled)
        found = ask(teachers, chunk, done)
        _check_finite(found, done)
        path = _part(parts, done)
        new = [labelled_frame(a, f, teachers) for a, f in zip(chunk, found, strict=True)]
        write_whole(path, frames_text(new).encode())
        labelled += new
        report(len(labelled), len(frames))
    write_whole(folder / MERGED, frames_text(labelled).encode())
    for path in parts.glob("*.extxyz"):
        path.unlink()
    parts.rmdir()
    return read_frames(folder / MERGED)


def ask(teachers: Sequence[Any], frames: Sequence[Atoms], first: int = 0) -> list[list[Results]]:
    """Results [frame][teacher].

    Raises:
        StructureError: one frame cannot be evaluated; names it, counting from `first`.
    """
    bare = [unlabelled(atoms) for atoms in frames]
    try:
        return _ask(teachers, bare)
    except StructureError:
        for index, atoms in enumerate(bare):
            try:
                _ask(teachers, [atoms])
            except StructureError as error:
                raise StructureError(f"{error} in frame {first + index}") from None
        raise


def labelled_frame(atoms: Atoms, found: Sequence[Results], teachers: Sequence[Any]) -> Atoms:
    """A frame with the mean as its labels, and the spread."""
    labelled = unlabelled(atoms)
    mean = mean_of(found)
    names = ", ".join(_name(teacher) for teacher in teachers)
    labelled.info["method"] = f"mean of {len(found)}: {names}" if len(found) > 1 else names
    labelled.info["method_dispersion"] = "of the teachers"
    labelled.info["teacher_energies"] = np.array([results["energy"] for results in found])
    if len(found) > 1:
        spread = spread_of(found)
        labelled.set_array("forces_spread", spread.forces)
        if spread.charges is not None:
            labelled.set_array("charges_spread", spread.charges)
        if spread.stress is not None:
            labelled.info["stress_spread"] = spread.stress
    kept = {name: mean[name] for name in LABELS if name in mean}
    if atoms.pbc.any():
        kept.pop("dipole", None)  # that of a box depends on where it is cut
    labelled.calc = SinglePointCalculator(labelled, **kept)
    return labelled


def unlabelled(atoms: Atoms) -> Atoms:
    """The bare structure: labels and weights of another method must not be mixed with new ones."""
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.info = {name: atoms.info[name] for name in KEPT if name in atoms.info}
    return bare


def _ask(teachers: Sequence[Any], frames: Sequence[Atoms]) -> list[list[Results]]:
    if len(teachers) == 1:
        return [[results] for results in evaluate_each(teachers[0], frames)]
    return Committee(teachers).evaluate_members(frames)


def _check_finite(found: Sequence[Sequence[Results]], first: int) -> None:
    """Refuse what ASE calculators of others may give."""
    for index, of_frame in enumerate(found):
        for which, results in enumerate(of_frame):
            bad = [name for name in LABELS if not np.isfinite(results.get(name, 0.0)).all()]
            if bad:
                raise StructureError(
                    f"expected finite {bad[0]} of teacher {which}, got others in frame "
                    f"{first + index}"
                )


def _name(teacher: Any) -> str:
    if isinstance(teacher, HybridFF):
        return str(teacher.info.name)
    return str(getattr(teacher, SOURCE, type(teacher).__name__))


def _part(folder: Path, first: int) -> Path:
    return folder / f"{first:07d}.extxyz"


def _check_fingerprint(folder: Path, now: dict[str, Any]) -> None:
    path = folder / FINGERPRINT
    if not path.exists():
        write_whole(path, json.dumps(now, indent=1).encode())
        return
    try:
        before = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ConfigError(f"expected what labels were made of in {path}, got {error}") from None
    different = [name for name in now if before.get(name) != now[name]]
    if different:
        raise ConfigError(
            f"expected labels of these frames and teachers in {folder}, got others "
            f"({', '.join(different)} differ); choose another folder or remove it"
        )
