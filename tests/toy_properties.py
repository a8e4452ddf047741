"""Quick runs of ``hff properties`` for the tests, and one of them as a program.

The program (``python toy_properties.py FOLDER [NVT]``) starts or resumes a run, so that tests can
kill it; NVT is another length at constant volume.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ase import Atoms
from toy_equilibration import SETTINGS, calculator
from toy_md import argon

from hff_ase.dynamics.properties.property_run import PropertyRun
from hff_ase.dynamics.properties.request import Request
from hff_ase.errors import ConfigError, StoppedError

SETTLING = {k: v for k, v in SETTINGS.items() if k not in ("temperature", "progress", "dtype")} | {
    "max_time": "3ps"
}


def builder(recipe: str, n_atoms: int, seed: int) -> Atoms:
    """32 atoms of argon that know their recipe."""
    box = argon(2)
    box.positions += 0.01 * seed
    box.info["recipe"] = recipe
    return box


def request(**options: Any) -> Request:
    base: dict[str, Any] = {
        "recipe": ("argon",),
        "temperature": (95.0,),
        "model": "toy",
        "property": ("density", "viscosity", "diffusion"),
        "replicas": 2,
        "pressure": 300.0,
        "npt": "1ps",
        "nvt": "1ps",
        "timestep": 4.0,
        "settle": "0.2ps",
        "equilibration": SETTLING,
        "dtype": "float64",
        "progress": False,
        "production": {
            "statistics_interval": 5,
            "checkpoint_interval": 50,
            "trajectory_format": "traj",
            "trajectory_interval": 50,
            "pressure_interval": 5,
        },
    }
    return Request(**{**base, **options})


def start(folder: Path | str, **options: Any) -> PropertyRun:
    return PropertyRun.start(folder, request(**options), calculator(), builder=builder)


def resume(folder: Path | str, **settings: Any) -> PropertyRun:
    return PropertyRun.resume(folder, calculator(), settings=settings, builder=builder)


def main() -> None:
    """Start the run, or take it up if it is there."""
    folder, *length = sys.argv[1:]
    settings = {"nvt": length[0]} if length else {}
    try:
        run = resume(folder, **settings)
    except ConfigError:
        run = start(folder, **settings)
    try:
        run.run()
    except StoppedError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
