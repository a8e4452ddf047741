"""A quick calculator for tests of molecular dynamics, and runs of it as a program.

The program (``python toy_md.py FOLDER ENSEMBLES STEPS``) starts or resumes a run, so that tests can
kill it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.md import MDRun
from hff_ase.errors import SimulationError

CUTOFF, SKIN = 5.0, 1.0
EPSILON, SIGMA = 0.03, 3.4  # sticky argon: the short cutoff costs much of its cohesion


class ListedLennardJones(Calculator):
    """Lennard-Jones cut smoothly, with a neighbour list that is kept while nothing moves far.

    Pairs are summed in the order of their distance when the list was made: a resumed run gives
    the same bits only if the list is made for the same positions again.
    """

    implemented_properties = ["energy", "forces", "stress", "charges"]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.reference: np.ndarray | None = None
        self.reference_cell: np.ndarray | None = None
        self.n_calls = 0

    def get_state(self) -> dict[str, np.ndarray]:
        if self.reference is None or self.reference_cell is None:
            return {}
        return {"positions": self.reference.copy(), "cell": self.reference_cell.copy()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self.reset()
        self._build(state["positions"].copy(), state["cell"].copy())

    def _build(self, positions: np.ndarray, cell: np.ndarray) -> None:
        i, j = np.triu_indices(len(positions), k=1)
        vector = positions[j] - positions[i]
        shift = -np.round(vector @ np.linalg.inv(cell))
        distance = np.linalg.norm(vector + shift @ cell, axis=1)
        order = np.argsort(distance, kind="stable")
        order = order[distance[order] < CUTOFF + SKIN]
        self.pairs = i[order], j[order], shift[order]
        self.reference, self.reference_cell = positions, cell

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.n_calls += 1
        positions, cell = self.atoms.positions, np.array(self.atoms.cell)
        if self.reference is None or self._moved(positions, cell):
            self._build(positions.copy(), cell)
        i, j, shift = self.pairs
        vector = positions[j] - positions[i] + shift @ cell
        r2 = np.sum(vector**2, axis=1)
        inside = r2 < CUTOFF**2
        x = np.where(inside, r2 / CUTOFF**2, 1.0)
        s6 = SIGMA**6 / r2**3
        pair = 4 * EPSILON * (s6**2 - s6)
        slope = 4 * EPSILON * (-6 * s6**2 + 3 * s6) / r2  # d pair / d r2
        switch, dswitch = (1 - x) ** 3, -3 * (1 - x) ** 2 / CUTOFF**2
        gradient = 2 * (slope * switch + pair * dswitch)[:, None] * vector
        forces = np.zeros_like(positions)
        np.add.at(forces, i, gradient)
        np.add.at(forces, j, -gradient)
        stress = gradient.T @ vector / self.atoms.get_volume()
        self.energy_terms = {"repulsion": float(np.sum(4 * EPSILON * s6**2 * switch))}
        self.results = {
            "energy": float(np.sum(pair * switch)),
            "forces": forces,
            "stress": stress.flat[[0, 4, 8, 5, 2, 1]],
            "charges": np.tanh(forces[:, 0]),
        }

    def _moved(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        strain = np.abs(np.linalg.solve(self.reference_cell, cell) - np.eye(3)).max()
        farthest = np.abs(positions - self.reference).max() * np.sqrt(3)
        return bool(2 * farthest + strain * 3 * (CUTOFF + SKIN) > SKIN)


def argon(repeat: int = 3) -> Atoms:
    """An argon crystal out of order; 108 atoms for the default."""
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (repeat, repeat, repeat)
    atoms.positions += np.random.default_rng(3).normal(0, 0.1, atoms.positions.shape)
    return atoms


def settings(output: str, stages: list[str], **options: Any) -> MDConfig:
    """Settings of a short run."""
    base: dict[str, Any] = {
        "output": output,
        "stages": stages,
        "temperature": 90.0,
        "timestep": 4.0,
        "minimize_steps": 3,
        "statistics_interval": 5,
        "trajectory_interval": 20,
        "checkpoint_interval": 30,
        "progress": False,
        "plot": False,
    }
    return MDConfig(**{**base, **options})


def resume_or_start(resume: Callable[[], Any], start: Callable[[], Any]) -> None:
    """Take a run up if it is there, else start it; and go through with it."""
    try:
        run = resume()
    except SimulationError as error:
        if "got no checkpoint" not in str(error):
            raise
        run = start()
    run.run()


def main() -> None:
    """Start the run, or take it up if it is there."""
    folder, stages = sys.argv[1], sys.argv[2].split(",")
    config, calc = settings(folder, stages), ListedLennardJones()
    resume_or_start(lambda: MDRun.resume(folder, calc), lambda: MDRun.start(config, argon(), calc))


if __name__ == "__main__":
    main()
