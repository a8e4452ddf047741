"""What i-PI wrote, read again: averages of the estimators, a summary, a plot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from hff_ase.dynamics.pimd.config import PIMDConfig
from hff_ase.dynamics.pimd.input_xml import labels
from hff_ase.dynamics.reporters.statistics import average
from hff_ase.errors import SimulationError

Columns = dict[str, NDArray[np.float64]]
COLUMN = re.compile(r"#\s*cols?(?:umns?|\.)?\s+(\d+)\s+-->\s+(\S+)")


def read_properties(path: Path) -> Columns:
    """Columns of i-PI's properties by name (units in braces); the last row of every step.

    Lines that were cut short when i-PI was killed are left out, and so are rows that were written
    again after a restart.

    Raises:
        SimulationError: it cannot be read or has no columns.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SimulationError(f"expected i-PI's output at {path}, got: {error.strerror}") from None
    names = [match[2] for match in COLUMN.finditer(text)]
    if "step" not in names:
        raise SimulationError(f"expected the columns of i-PI's properties in {path}, got none")
    rows: dict[int, list[float]] = {}
    for line in text.splitlines():
        values = numbers_of(line, len(names))
        if values is not None:
            rows[round(values[names.index("step")])] = values
    table = np.array([rows[step] for step in sorted(rows)]).reshape(-1, len(names))
    return {name: table[:, index] for index, name in enumerate(names)}


def numbers_of(line: str, n: int) -> list[float] | None:
    """The numbers of a whole row; None for anything else."""
    parts = line.split()
    if len(parts) != n or parts[0].startswith("#"):
        return None
    try:
        return [float(part) for part in parts]
    except ValueError:
        return None


def cut_properties(path: Path, last_step: int) -> None:
    """Remove broken rows and those after a step, before i-PI appends to the file."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    n = len(COLUMN.findall(text))
    kept = []
    for line in text.splitlines():
        values = numbers_of(line, n)
        if line.startswith("#") or (values is not None and round(values[0]) <= last_step):
            kept.append(line)
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")


def cut_frames(path: Path, last_step: int) -> None:
    """Remove broken frames of an xyz file of i-PI's, and those after a step."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept: list[str] = []
    at = 0
    while at + 1 < len(lines) and lines[at].strip().isdigit():
        end = at + 2 + int(lines[at])
        step = re.search(r"Step:\s+(\d+)", lines[at + 1])
        if end > len(lines) or not lines[end - 1].endswith("\n") or step is None:
            break
        if int(step[1]) <= last_step:
            kept += lines[at:end]
        at = end
    path.write_text("".join(kept), encoding="utf-8")


def averages(columns: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Mean and error (`average`) of every column over the second half of the run."""
    return {
        name: average(values[len(values) // 2 :])
        for name, values in columns.items()
        if name not in ("step", "time{picosecond}")
    }


def summarize(config: PIMDConfig, atoms: Atoms, columns: Columns, seconds: float) -> dict[str, Any]:
    """Everything that summary.yaml holds.

    Args:
        config, atoms: of the run; atoms at the start.
        columns: from `read_properties`.
        seconds: wall time since the run was last started or resumed.
    """
    steps = int(columns["step"][-1]) if len(columns["step"]) else 0
    means = averages(columns)
    classical = 1.5 * units.kB * config.temperature
    names = labels(atoms)
    species = {}
    for name in sorted(set(names)):
        total = means.get(f"kinetic_cv({name}){{electronvolt}}")
        if total is not None and total["mean"] is not None:
            per_atom = total["mean"] / names.count(name)
            species[name] = {
                "kinetic[meV/atom]": round(1000 * per_atom, 4),
                "over_classical": round(per_atom / classical, 4),
            }
    return {
        "status": "finished" if steps >= config.n_steps else "stopped",
        "atoms": len(atoms),
        "formula": str(atoms.get_chemical_formula(mode="hill")),
        "beads": config.beads,
        "steps": steps,
        "time[ps]": steps * config.timestep * 1e-3,
        "averages_over": "the second half of the run; no error where it would be too small",
        "averages": means,
        "quantum_kinetic_energy": species,
        "wall_time[s]": round(seconds, 3),
        "config": config.model_dump(mode="json"),
    }
