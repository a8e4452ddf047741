"""Checkpoints of a run: everything needed to continue bit for bit, replaced atomically.

A checkpoint is a zip of plain arrays (npz without pickle); everything else is stored in it as JSON.
It is written next to the old one, flushed to disk and moved over it, so that at any moment the
file is either the old checkpoint or the new one.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.dynamics.reporters.growing_file import write_atomically
from hff_ase.errors import SimulationError

FORMAT = 1


@dataclass
class Checkpoint:
    """The state of a run between two steps.

    Attributes:
        config: the resolved configuration.
        phase: ``start`` (nothing done), ``dynamics`` or ``finished``.
        stage, stage_step, step: where the run is; steps done in this stage and in all.
        rng: state of the random generator.
        lengths: bytes of the growing files that belong to the run so far.
        energy: potential energy at this point, eV.
        environment: versions, threads and device, to warn where a resumed run may differ.
        notes: what earlier parts of the run leave for the summary.
        atoms, integrator, calculator: named arrays.
    """

    config: dict[str, Any]
    rng: dict[str, Any]
    environment: dict[str, Any]
    phase: str = "start"
    stage: int = 0
    stage_step: int = 0
    step: int = 0
    energy: float | None = None
    lengths: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    atoms: dict[str, np.ndarray] = field(default_factory=dict)
    integrator: dict[str, np.ndarray] = field(default_factory=dict)
    calculator: dict[str, np.ndarray] = field(default_factory=dict)


GROUPS = ("atoms", "integrator", "calculator")


def pack_atoms(atoms: Atoms) -> dict[str, np.ndarray]:
    """A structure as arrays, for a checkpoint: exact, unlike a text file."""
    packed = {
        f"arrays/{name}": array.copy()
        for name, array in atoms.arrays.items()
        if array.dtype.kind in "iufb"
    }
    packed["cell"], packed["pbc"] = np.array(atoms.cell), atoms.pbc.copy()
    if "charge" in atoms.info:
        packed["charge"] = np.array(atoms.info["charge"])
    if len(atoms.info.get("molecules", ())):
        packed["molecules"] = np.array(atoms.info["molecules"], dtype=str)
    if "recipe" in atoms.info:
        packed["recipe"] = np.array(str(atoms.info["recipe"]))
    return packed


def unpack_atoms(packed: dict[str, np.ndarray]) -> Atoms:
    """The inverse of `pack_atoms`."""
    atoms = Atoms(packed["arrays/numbers"], cell=packed["cell"], pbc=packed["pbc"])
    for name, array in packed.items():
        if name.startswith("arrays/"):
            atoms.set_array(name.removeprefix("arrays/"), array.copy())
    if "charge" in packed:
        atoms.info["charge"] = packed["charge"].item()
    if "molecules" in packed:
        atoms.info["molecules"] = packed["molecules"].tolist()
    if "recipe" in packed:
        atoms.info["recipe"] = packed["recipe"].item()
    return atoms


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint.

    Raises:
        SimulationError: it cannot be written, or a state holds something that is not an array.
    """
    content = asdict(checkpoint)
    arrays: dict[str, np.ndarray] = {}
    for group in GROUPS:
        for name, value in content.pop(group).items():
            array = np.asarray(value)
            if array.dtype.hasobject:
                raise SimulationError(
                    f"expected an array for {group} state {name!r}, got {value!r}"
                )
            arrays[f"{group}/{name}"] = array
    header = json.dumps({"format": FORMAT, **content}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, header=np.frombuffer(header, dtype=np.uint8), **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        SimulationError: there is none, or it is damaged or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        version = header.pop("format")
    except FileNotFoundError:
        raise SimulationError(f"expected a run in {path.parent}, got no {path.name}") from None
    except OSError as error:
        raise SimulationError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise SimulationError(
            f"expected a checkpoint, got a damaged file {path}: {error}"
        ) from None
    if version != FORMAT:
        raise SimulationError(f"expected checkpoint format {FORMAT} in {path}, got {version}")
    for group in GROUPS:
        prefix = f"{group}/"
        header[group] = {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix)
        }
    return Checkpoint(**header)
