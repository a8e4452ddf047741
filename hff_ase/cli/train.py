"""``hff train``: a model from labelled frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="Yaml file with the settings.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training in the output folder.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Replace a setting, such as optimizer.learning_rate=1e-3; may be given again.",
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder of the run.", show_default=False)
    ] = None,
) -> None:
    """Train a force field from random weights or further; a killed run continues with --resume.

    Several processes or GPUs: torchrun --nproc-per-node 2 -m hff_ase train config.yaml
    """
    from hff_ase.allocator import keep_memory
    from hff_ase.calculators.finetune import train as train_model
    from hff_ase.dynamics.simulation.stopping import stop_on_signals
    from hff_ase.training.config import TrainConfig

    keep_memory()
    overrides = [*(set_ or []), *([f"output={output}"] if output is not None else [])]
    settings = TrainConfig.from_yaml(config, overrides)
    with stop_on_signals() as stop:
        calc = train_model(settings, resume=resume, stop=stop)
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"{calc.info.name}: {Path(settings.output) / 'model.hff'}")
        for name, value in calc.info.details["validation"].items():
            typer.echo(f"{name:>16} {value:.6g}")
