"""``hff train``: a model from labelled frames."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from hff_ase.cli.command import command_of_run
from hff_ase.settings import Given, Section, setting
from hff_ase.settings.common import RESTART
from hff_ase.training.config import TrainConfig


class ResumeSwitch(Section):
    """Whether a training is resumed."""

    resume: str | None = setting(
        None,
        "Folder of a training to continue with its settings; started there if there is none yet.",
        panel=RESTART,
        metavar="FOLDER",
    )


@command_of_run(TrainConfig, switches=ResumeSwitch)
def train(given: Given, switches: ResumeSwitch) -> None:
    """Train a force field from random weights or from a model; --resume continues a killed run.

    Several processes or GPUs: torchrun --nproc-per-node 2 -m hff_ase train --config train.yaml
    """
    from hff_ase.allocator import keep_memory
    from hff_ase.calculators.finetune import train as train_model
    from hff_ase.dynamics.simulation.stopping import stop_on_signals

    keep_memory()
    resume = switches.resume is not None
    config = TrainConfig.load(taken_up(given, switches.resume, "config.yaml", TrainConfig))
    with stop_on_signals() as stop:
        calc = train_model(config, resume=resume, stop=stop)
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"{calc.info.name}: {Path(config.output) / 'model.hff'}")
        for name, value in calc.info.details["validation"].items():
            typer.echo(f"{name:>16} {value:.6g}")


def taken_up(given: Given, folder: str | None, file: str, model: type[Section]) -> Given:
    """The requested settings, over those that the run in a folder was started with.

    Raises:
        ConfigError: another output than the folder, or nothing there and no settings.
    """
    from hff_ase.errors import ConfigError

    if folder is None:
        return given
    if str(given.get("output", folder)) != folder:
        raise ConfigError(f"expected one folder, got --resume {folder} and another output")
    before = Path(folder) / file
    if not before.exists() and not given:
        raise ConfigError(f"expected a training in {folder}, got none")
    kept = Given.of(before) if before.exists() else Given({})
    return Given({"output": folder}).over(given.over(kept, model))
