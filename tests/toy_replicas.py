"""Quick runs of replicas for the tests, and one of them as a program.

The program (``python toy_replicas.py FOLDER``) starts or resumes a run, so that tests can kill it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ase import Atoms
from torch import Tensor
from toy_engine import LennardJones, toy_calculator
from toy_md import argon, resume_or_start, settings

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.neighborhood import Neighborhood
from hff_ase.terms.term import Fields

STAGED = ["npt:0.16ps", "nvt:0.16ps", "nvt-nhc:0.08ps"]


def config(folder: Path | str, stages: list[str], **options: Any) -> ReplicaConfig:
    base = settings(str(folder), stages).model_dump(exclude_unset=True)
    return ReplicaConfig.load({**base, **options})


def boxes() -> list[Atoms]:
    """32 atoms of argon, and 30 (two have gone)."""
    whole = argon(2)
    return [whole, whole[:30]]


def calculator(term: LennardJones | None = None) -> HybridFF:
    return toy_calculator(term, skin=0.5)


def outputs(folder: Path) -> dict[str, bytes]:
    kept = ("statistics.dat", "trajectory", "final.extxyz", "pressure.dat")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.glob("replica-*/*"))
        if path.name.startswith(kept)
    }


def start(folder: Path | str, calc: HybridFF | None = None, **options: Any) -> ReplicaRun:
    base = {"temperature": [80, 100], "pressure": [1, 500], "replicas": 8, "pressure_interval": 3}
    made = config(folder, STAGED, **{**base, **options})
    return ReplicaRun.start(made, boxes(), calc or calculator())


class KilledError(Exception):
    """Stands in for a power cut."""


class DiesAt(LennardJones):
    """Dies at an evaluation, in the middle of a step."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.call = call

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        if self.n_calls >= self.call:
            raise KilledError
        return super().forward(batch, neighbors, fields)


def main() -> None:
    """Start the run, or take it up if it is there."""
    folder = sys.argv[1]
    resume_or_start(lambda: ReplicaRun.resume(folder, calculator()), lambda: start(folder))


if __name__ == "__main__":
    main()
