"""Labelled structures as files: extxyz, or an ASE database that keeps the potential as well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from hff_ase.data.database import write_database
from hff_ase.data.frames import frames_text
from hff_ase.errors import ConfigError
from hff_ase.files import write_whole
from hff_ase.labels.electrons import closed_shell_charge
from hff_ase.labels.labeller import Label

__all__ = ["write_labelled"]

RESULTS = ("energy", "forces", "stress", "charges", "dipole")
SUFFIXES = (".extxyz", ".xyz", ".db")


def labelled_atoms(atoms: Atoms, label: Label) -> Atoms:
    """A structure with its label: results in the calculator, facts in ``info``.

    ``info`` gets ``charge``, ``status`` and what the labeller says (``method``,
    ``method_dispersion``, versions, convergence ...), and ``quadrupole`` [3, 3] in e A^2;
    ``esp_points`` [n, 3] (A), ``esp`` [n] (V) and ``eda_<component>`` (eV) where there are any;
    arrays get
    ``charges_<kind>``. A failed label leaves no results, its ``info["error"]`` says why.
    """
    out = atoms.copy()
    out.info |= {"charge": closed_shell_charge(atoms), "status": label.status}
    out.info |= {key: _plain(value) for key, value in label.info.items() if value is not None}
    arrays = label.arrays
    for name in arrays:
        if name.startswith("charges_"):
            out.arrays[name] = arrays[name]
    for name in ("quadrupole", "esp_points", "esp"):
        if name in arrays:
            out.info[name] = arrays[name]
    out.info |= {name: float(arrays[name]) for name in arrays if name.startswith("eda_")}
    if label.ok:
        results: dict[str, Any] = {name: arrays[name] for name in RESULTS if name in arrays}
        results["energy"] = float(arrays["energy"])
        if "stress" in results:
            results["stress"] = results["stress"][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]  # Voigt
        out.calc = SinglePointCalculator(out, **results)
    return out


def _plain(value: Any) -> Any:
    """An object that extxyz and a database keep as it is."""
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return "; ".join(value)
    return json.dumps(value)


def write_labelled(path: str | Path, frames: Sequence[Atoms], labels: Sequence[Label]) -> None:
    """Write structures with their labels; failed ones go to ``<name>.failed.extxyz``.

    ``.extxyz`` leaves the grid of the potential out (tens of thousands of numbers per
    structure); ``.db``, an ASE database, keeps it as well (`hff_ase.data` reads both).

    Args:
        path: with one of these suffixes.
        frames: the structures.
        labels: of each.

    Raises:
        ConfigError: another suffix, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"expected an output that ends in {', '.join(SUFFIXES)}, got {path}")
    labelled = [labelled_atoms(a, label) for a, label in zip(frames, labels, strict=True)]
    good = [a for a, label in zip(labelled, labels, strict=True) if label.ok]
    bad = [a for a, label in zip(labelled, labels, strict=True) if not label.ok]
    try:
        write_database(good, path) if path.suffix == ".db" else _write_extxyz(path, good)
        failures = path.with_suffix(".failed.extxyz")
        if bad:
            _write_extxyz(failures, bad)
        else:
            failures.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _write_extxyz(path: Path, frames: Sequence[Atoms]) -> None:
    without_grid = []
    for frame in frames:
        small = frame.copy()
        small.calc = frame.calc
        for name in ("esp_points", "esp"):
            small.info.pop(name, None)
        without_grid.append(small)
    write_whole(path, frames_text(without_grid).encode())


def counts(labels: Sequence[Label]) -> dict[str, int]:
    """How many labels there are and how many failed."""
    n_ok = int(np.sum([label.ok for label in labels], dtype=int))
    return {"labelled": n_ok, "failed": len(labels) - n_ok}
