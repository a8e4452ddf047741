"""The summary of a run, and the software it ran with."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import yaml
from ase import Atoms

from hff_ase._version import __version__
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.reporters.run_folder import SUMMARY, RunFolder
from hff_ase.dynamics.reporters.statistics import stage_averages
from hff_ase.dynamics.simulation.checkpoint import Checkpoint
from hff_ase.errors import SimulationError

PACKAGES = ("ase", "numpy", "scipy", "torch", "vesin")


def environment() -> dict[str, Any]:
    """Versions and threads: with the same ones, a resumed run gives the same bits."""
    found: dict[str, Any] = {"hff_ase": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    # torch is looked at only where the calculator uses it
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_threads"] = torch.get_num_threads()
    found["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS")
    found["machine"] = platform.machine()
    return found


def summarize(
    atoms: Atoms,
    config: MDConfig,
    state: Checkpoint,
    statistics: Mapping[str, np.ndarray],
    speed: float,
    status: str = "finished",
) -> dict[str, Any]:
    """Everything that summary.yaml holds.

    Args:
        atoms: at the end.
        config: of the run.
        state: at the end.
        statistics: columns of the statistics file.
        speed: ns/day since the run was last started or resumed.
        status: ``finished``, or ``running``, ``stopped``, ``failed``: stages that have not begun
            have no averages then.
    """
    stages = [
        {"ensemble": stage.ensemble, "steps": stage.n_steps, **stage_averages(statistics, index)}
        for index, stage in enumerate(config.plan, start=1)
        if bool((statistics["stage"] == index).any()) or status == "finished"
    ]
    return {
        "status": status,
        "atoms": len(atoms),
        "formula": str(atoms.get_chemical_formula(mode="hill")),
        "steps": state.step,
        "time[ps]": state.step * config.timestep * 1e-3,
        "minimization": state.notes.get("minimization"),
        "averages_over": "the second half of each stage; no error where it would be too small",
        "stages": stages,
        "speed[ns/day]": float(speed),
        "wall_time[s]": float(state.notes.get("seconds", 0.0)),
        "environment": state.environment,
        "config": config.resolved(),
    }


def read_summary(folder: RunFolder) -> dict[str, Any]:
    """The contents of a finished run's summary.yaml.

    Raises:
        SimulationError: it is missing or damaged.
    """
    try:
        content = yaml.safe_load(folder[SUMMARY].read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = str(error).split("\n")[0]
        raise SimulationError(f"cannot read the summary of {folder.path}: {reason}") from None
    return dict(content)
