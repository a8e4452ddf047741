"""Quick equilibrations for the tests, and one of them as a program.

The program (``python toy_equilibration.py FOLDER``) starts or resumes a run, so that tests can kill
it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ase import Atoms
from toy_engine import LennardJones, toy_calculator
from toy_md import argon, resume_or_start

from hff_ase.calculators import HybridFF
from hff_ase.dynamics.equilibration import EquilibrationConfig, EquilibrationRun

SETTINGS: dict[str, Any] = {
    "temperature": 90.0,
    "pressure": 300.0,
    "timestep": 8.0,
    "hydrogen_mass": None,
    "friction": 10.0,
    "dtype": "float64",
    "minimize_steps": 5,
    "hot": "0.8ps",
    "hot_max": "1.6ps",
    "cool": "0.6ps",
    "soft": "1.6ps",
    "soft_pdamp": 800.0,
    "check": "1ps",
    "least": "1ps",
    "max_time": "80ps",
    "statistics_interval": 5,
    "trajectory_interval": 500,
    "progress": False,
}


def boxes() -> list[Atoms]:
    """32 atoms of argon, and the same in a box 15 % less dense."""
    wide = argon(2)
    wide.set_cell(wide.cell * 1.15 ** (1 / 3), scale_atoms=True)
    return [argon(2), wide]


def ions() -> Atoms:
    """A wide box of argon that calls four of its atoms lithium and the rest oxygen."""
    atoms = boxes()[1]
    atoms.symbols[:] = "O"
    atoms.symbols[:4] = "Li"
    return atoms


def calculator(term: LennardJones | None = None) -> HybridFF:
    return toy_calculator(term, skin=0.5)


def start(
    folder: Path | str,
    structures: list[Atoms] | None = None,
    calc: HybridFF | None = None,
    **options: Any,
) -> EquilibrationRun:
    config = EquilibrationConfig.load({**SETTINGS, "output": str(folder), **options})
    return EquilibrationRun.start(config, structures or boxes(), calc or calculator())


def main() -> None:
    """Start the run, or take it up if it is there."""
    folder = sys.argv[1]
    resume_or_start(lambda: EquilibrationRun.resume(folder, calculator()), lambda: start(folder))


if __name__ == "__main__":
    main()
