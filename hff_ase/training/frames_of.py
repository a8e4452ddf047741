"""Training and validation frames as a configuration names them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from ase import Atoms

from hff_ase.data.checks import check_frames
from hff_ase.data.frames import read_path
from hff_ase.data.splits import split_at_random, split_by_segment
from hff_ase.errors import ConfigError, StructureError
from hff_ase.training.config import DataSection

Split = tuple[list[Atoms], list[Atoms]]  # to train on, to validate on


def check_by_method(frames: Sequence[Atoms]) -> None:
    """Look for broken labels, among those of one method at a time: each has its own zero.

    Raises:
        StructureError: names the frame and what is wrong with it.
    """
    methods: dict[str, list[Atoms]] = {}
    for atoms in frames:
        methods.setdefault(str(atoms.info.get("method")), []).append(atoms)
    for of_method in methods.values():
        check_frames(of_method)


def read_split(section: DataSection, seed: int) -> Split:
    """Frames to train on and to validate on.

    Raises:
        StructureError: a file cannot be read, or a frame or label is broken.
        ConfigError: nothing is left to train on.
    """
    files = read_files(section.train)
    train = [atoms for _, frames in files for atoms in frames]
    held_out = [atoms for _, frames in read_files(section.validation) for atoms in frames]
    if section.split is not None:
        train, held_out = [], []
        for name, frames in files:
            kept, out = _split_file(name, frames, section)
            train, held_out = train + kept, held_out + out
        if section.split.fraction is not None:
            train, out = split_at_random(train, section.split.fraction, seed)
            held_out += out
    if not train:
        raise ConfigError("expected frames to train on, got none beside those held out")
    return train, held_out[:: section.validation_stride]


def _split_file(
    name: str, frames: list[Atoms], section: DataSection
) -> tuple[list[Atoms], list[Atoms]]:
    split = section.split
    if split is None:
        return frames, []
    if any(fnmatch(name, pattern) for pattern in split.files):
        return [], frames
    if split.segment is not None:
        return split_by_segment(frames, split.segment, split.held_out)
    return frames, []


def read_files(paths: Sequence[str]) -> list[tuple[str, list[Atoms]]]:
    """Name (without its endings) and frames of every file, those in folders included."""
    found = []
    for path in paths:
        if not Path(path).exists():
            raise StructureError(f"expected labelled frames at {path}, got no such file or folder")
        for frames in read_path(path):
            found.append((str(frames[0].info["source"]).rpartition(":")[0], frames))
    return found
