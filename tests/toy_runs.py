"""Short runs of argon on either engine, which may be killed, for tests of what runs write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from toy_engine import toy_calculator
from toy_md import ListedLennardJones, argon, settings

from hff_ase.dynamics.md import MDRun


class KilledError(Exception):
    """Stands in for a power cut."""


def calculator(engine: str, last_call: int | None = None) -> Any:
    """Lennard-Jones for an engine, which may die at an evaluation in the middle of a step."""
    calc = ListedLennardJones() if engine == "ase" else toy_calculator(skin=0.5)
    if last_call is None:
        return calc
    owner, name = (calc, "calculate") if engine == "ase" else (calc.potential, "compute")
    work, calls = getattr(owner, name), 0

    def dies(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > last_call:
            raise KilledError
        return work(*args, **options)

    setattr(owner, name, dies)
    return calc


def start(
    folder: Path, stages: list[str], calc: Any = None, engine: str = "ase", **options: Any
) -> MDRun:
    config = settings(str(folder), stages, engine=engine, **options)
    return MDRun.start(config, molecular_argon(), calc or calculator(engine), force=True)


def molecular_argon() -> Atoms:
    """Argon (32 atoms) with molecule ids and names, which mean nothing to the potential."""
    atoms = argon(2)
    atoms.set_array("molecule", np.arange(len(atoms)) // 2)
    atoms.info["molecules"] = ["Ar2", "dimer"] * 8
    return atoms


class Still(ListedLennardJones):
    """No forces at all, on any elements."""

    def calculate(self, atoms=None, properties=(), system_changes=()):
        zero = np.zeros((len(atoms), 3))
        self.results = {"energy": 0.0, "forces": zero, "stress": np.zeros(6)}
