"""``hff finetune``: train a model further, and optionally the same from random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import field_validator

from hff_ase.cli.command import command_of_run
from hff_ase.cli.train import ResumeSwitch, taken_up
from hff_ase.settings import Given, absolute, setting
from hff_ase.settings.common import OUTPUT
from hff_ase.settings.declare import REQUIRED
from hff_ase.training.adapt_config import AdaptConfig
from hff_ase.training.config import FINETUNING, TrainingSettings

FILE = "finetune.yaml"  # in the folder of a run: what it was started with
FRAMES, TRAINING = "Frames", "Training"


class FinetuneConfig(TrainingSettings):
    """A model, frames, and how it is trained further on them."""

    defaults = FINETUNING

    start: str = setting(
        REQUIRED, "Name of a shipped model, or an .hff file.", positional=True, metavar="MODEL"
    )
    frames: str = setting(
        REQUIRED, "Labelled frames: a file or a folder.", positional=True, metavar="PATH"
    )
    output: str = setting(
        "finetune", "Folder of the run.", short="-o", panel=OUTPUT, metavar="FOLDER"
    )
    test: str | None = setting(
        None, "Labelled frames to compare models on.", panel=FRAMES, metavar="PATH"
    )
    validation: str | None = setting(
        None, "Labelled frames for the learning curve.", panel=FRAMES, metavar="PATH"
    )
    from_scratch: bool = setting(
        False,
        "Also train the same terms from random weights, for the comparison.",
        panel=TRAINING,
    )
    adapt: AdaptConfig = AdaptConfig()

    @field_validator("start")
    @classmethod
    def _absolute_start(cls, value: str) -> str:
        return absolute(value, Path.is_file)

    @field_validator("frames", "test", "validation")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        return absolute(value, Path.exists) if value else value


@command_of_run(FinetuneConfig, switches=ResumeSwitch)
def finetune(given: Given, switches: ResumeSwitch) -> None:
    """Fine-tune a model; with --test, compare it with the original (and with --from-scratch)."""
    import logging

    from hff_ase.allocator import keep_memory
    from hff_ase.calculators import HybridFF
    from hff_ase.calculators.finetune import compare
    from hff_ase.calculators.finetune import finetune as train_further
    from hff_ase.dynamics.simulation.stopping import stop_on_signals
    from hff_ase.errors import ConfigError

    keep_memory()
    logging.basicConfig(format="hff: %(message)s")
    given = taken_up(given, switches.resume, FILE, FinetuneConfig)
    config, output = FinetuneConfig.load(given), Path(given.get("output", "finetune"))
    if config.from_scratch and config.test is None:
        raise ConfigError("expected --test frames to compare on with --from-scratch, got none")
    common: dict[str, Any] = {
        "adapt": config.adapt,
        "validation": config.validation,
        "settings": given.only(*TrainingSettings.names()),
        "resume": switches.resume is not None,
        "output": output,
    }
    calc = HybridFF.load(config.start, device=config.device, dtype=config.dtype)
    keep(config, given, output)
    with stop_on_signals() as stop:
        if config.test is None:
            calc = train_further(calc, config.frames, stop=stop, **common)
            typer.echo(f"{calc.info.name}: {output / 'model.hff'}")
            return
        found = compare(
            calc, config.frames, config.test, from_scratch=config.from_scratch, stop=stop, **common
        )
    typer.echo(found.markdown())
    typer.echo(f"{output / 'comparison.md'}; the model is {output / 'finetuned' / 'model.hff'}")


def keep(config: FinetuneConfig, given: Given, output: Path) -> None:
    """Save the settings; a run that has begun keeps its own.

    Not the defaults: they differ between the training from random weights and the other one.
    """
    from hff_ase.files import write_whole
    from hff_ase.settings import to_yaml
    from hff_ase.training.loop.state import STATE

    if any((output / folder / STATE).exists() for folder in ("", "finetuned")):
        return
    output.mkdir(parents=True, exist_ok=True)
    asked = asked_for(config.model_dump(mode="json", by_alias=True), given)
    write_whole(output / FILE, to_yaml(asked).encode())


def asked_for(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Checked settings; only those that were given."""
    return {
        name: asked_for(settings[name], value)
        if isinstance(value, Mapping) and isinstance(settings[name], Mapping)
        else settings[name]
        for name, value in given.items()
    }
