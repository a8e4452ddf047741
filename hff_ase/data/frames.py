"""Labelled frames in files and folders."""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import iread, write
from ase.io.extxyz import XYZError
from ase.io.formats import UnknownFileTypeError
from ase.stress import full_3x3_to_voigt_6_stress

from hff_ase.data.database import SUFFIXES, read_database
from hff_ase.data.labels import result_of, source_of
from hff_ase.data.quantum_outputs import reader_of
from hff_ase.data.synonyms import with_known_labels
from hff_ase.data.theory import level_of_theory
from hff_ase.errors import ConfigError, StructureError
from hff_ase.reading import with_own_names
from hff_ase.structures import check_cell

__all__ = ["frames_text", "read_folder", "read_frames", "read_path"]

EXTENDED_XYZ = (".extxyz", ".xyz")
FOLDER_PATTERNS = ("*.extxyz", "*.extxyz.xz", *(f"*{suffix}" for suffix in SUFFIXES))


def read_frames(path: Path | str) -> list[Atoms]:
    """All frames of a file: extended xyz (.xz is unpacked), an ASE database, what else ASE reads:
    outputs of ORCA, Gaussian, VASP, FHI-aims, Quantum ESPRESSO and others, with the level of theory
    and the charge as far as the file says (`hff_ase.data.theory`); with the extra ``dft`` outputs
    of CP2K, Q-Chem, Psi4 and NWChem (`hff_ase.data.quantum_outputs`).

    Each has ``info["source"]``, the name of the file and its index there. Labels under other names
    are taken as `hff_ase.data.synonyms` says. A ``virial`` (eV) instead of a stress becomes the
    stress -virial/V; ``info["stress_from"]`` says so.

    Raises:
        StructureError: the file is missing, empty or cannot be read.
    """
    path = Path(path)
    if path.suffix in SUFFIXES:
        return in_own_names(read_database(path), path)
    inner = path.with_suffix("") if path.suffix == ".xz" else path
    frames: list[Atoms] = []
    try:
        raw = path.read_bytes()
        if inner.suffix in EXTENDED_XYZ:
            text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode()
            # one after the other, so that the message can name the frame that is broken
            for block in _blocks(text):
                frames.extend(iread(StringIO(block), format="extxyz"))
        else:
            text = raw.decode(errors="replace")
            reader = reader_of(text)
            frames.extend(iread(path, index=":") if reader is None else reader(path))
            facts = level_of_theory(text)
            for atoms in frames:
                atoms.info = {**facts, **atoms.info}
    except XYZError as error:  # an OSError, but about one frame
        raise StructureError(
            f"expected labelled frames in {path}, got {error} in frame {len(frames)}"
        ) from None
    except (ConfigError, StructureError):
        raise
    except (OSError, lzma.LZMAError, UnknownFileTypeError) as error:
        raise StructureError(f"expected labelled frames in {path}, got {error}") from None
    except Exception as error:  # ASE's readers raise whatever they stumble over
        raise StructureError(
            f"expected labelled frames in {path}, got {error!r:.200} in frame {len(frames)}"
        ) from None
    if not frames:
        raise StructureError(f"expected labelled frames in {path}, got none")
    for index, atoms in enumerate(frames):
        atoms.info["source"] = f"{path.name.split('.')[0]}:{index}"
    return in_own_names(frames, path)


def in_own_names(frames: Sequence[Atoms], path: Path) -> list[Atoms]:
    """Frames with masses, charge and labels under this package's names.

    Raises:
        StructureError: names that contradict each other.
    """
    named = [with_own_names(atoms, f" in frame {source_of(atoms)}") for atoms in frames]
    return [with_stress(atoms) for atoms in with_known_labels(named, f" in {path.name}")]


def read_folder(folder: Path | str) -> list[list[Atoms]]:
    """The frames of every extended xyz file and database of a folder, a list per file.

    Raises:
        StructureError: there is no such file.
    """
    folder = Path(folder)
    paths = sorted({path for pattern in FOLDER_PATTERNS for path in folder.glob(pattern)})
    if not paths:
        raise StructureError(f"expected .extxyz, .extxyz.xz or .db files in {folder}, got none")
    return [read_frames(path) for path in paths]


def read_path(path: Path | str) -> list[list[Atoms]]:
    """The frames of a file, or of every file of a folder, a list per file.

    Raises:
        StructureError: as `read_frames` and `read_folder`.
    """
    return read_folder(path) if Path(path).is_dir() else [read_frames(path)]


def frames_text(frames: Sequence[Atoms]) -> str:
    """Frames as extended xyz."""
    text = StringIO()
    write(text, list(frames), format="extxyz")
    return text.getvalue()


def _blocks(text: str) -> Iterator[str]:
    """The text of each frame: a line with the number of atoms, a comment, a line per atom."""
    lines = text.splitlines(keepends=True)
    start = 0
    while start < len(lines) and lines[start].strip():
        end = start + int(lines[start]) + 2
        yield "".join(lines[start:end])
        start = end


def with_stress(atoms: Atoms) -> Atoms:
    """The frame with a stress where it has only a virial: stress = -virial/V.

    Raises:
        StructureError: the virial is no 3x3 matrix.
    """
    virial = atoms.info.get("virial")
    if virial is None or not atoms.pbc.all() or result_of(atoms, "stress") is not None:
        return atoms
    virial = np.asarray(virial, dtype=np.float64)
    if virial.size != 9:
        raise StructureError(
            f"expected a virial of 3x3 numbers, got shape {virial.shape} in frame "
            f"{source_of(atoms)}"
        )
    check_cell(np.asarray(atoms.cell), f" in frame {source_of(atoms)}")
    stress = full_3x3_to_voigt_6_stress(-virial.reshape(3, 3) / atoms.get_volume())
    results = dict(atoms.calc.results) if isinstance(atoms.calc, Calculator) else {}
    atoms.calc = SinglePointCalculator(atoms, **results, stress=stress)
    atoms.info["stress_from"] = "-virial/V"
    return atoms
