"""``hff finetune``: a trained model, trained further; beside it the same from random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

DATA, CHANGES, TRAINING = "Frames", "What is changed", "Training"


def finetune(
    start: Annotated[str, typer.Argument(help="Name of a shipped model, or an .hff file.")],
    frames: Annotated[Path, typer.Argument(help="Labelled frames: a file or a folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run.")
    ] = Path("finetune"),
    test: Annotated[
        Path | None,
        typer.Option(help="Labelled frames to compare models on.", rich_help_panel=DATA),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Labelled frames for the learning curve.", rich_help_panel=DATA),
    ] = None,
    replay: Annotated[
        list[str] | None,
        typer.Option(help="Old frames to train on as well; again for more.", rich_help_panel=DATA),
    ] = None,
    replay_weight: Annotated[
        float, typer.Option(help="Weight of an old frame.", rich_help_panel=DATA)
    ] = 1.0,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch",
            help="Train the same terms from random weights too; the table has them all.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            help="heads_only, last_layer_and_heads, all_but_embedding, or a pattern of parameter "
            "names to keep as they are; again for more.",
            rich_help_panel=CHANGES,
        ),
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(min=1, help="Rank of low-rank updates.", rich_help_panel=CHANGES),
    ] = None,
    add_element: Annotated[
        list[str] | None,
        typer.Option(help="Na, or Na:Li to start like Li; again for more.",
                     rich_help_panel=CHANGES),
    ] = None,
    refit_references: Annotated[
        bool,
        typer.Option("--refit-references", help="Fit reference energies to the new labels.",
                     rich_help_panel=CHANGES),
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Length.", rich_help_panel=TRAINING)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Yaml file with sections of a training (loss, optimizer, ...) and adapt.",
                     rich_help_panel=TRAINING),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.key=value, over the file.", rich_help_panel=TRAINING),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the output folder.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:  # fmt: skip
    """Train a model further; with --test, say what that (and --from-scratch) is worth."""
    import logging

    from hff_ase.allocator import keep_memory
    from hff_ase.calculators import HybridFF
    from hff_ase.calculators.finetune import compare
    from hff_ase.calculators.finetune import finetune as train_further
    from hff_ase.dynamics.simulation.stopping import stop_on_signals
    from hff_ase.errors import ConfigError

    keep_memory()
    logging.basicConfig(format="hff: %(message)s")
    if from_scratch and test is None:
        raise ConfigError("expected --test frames to compare on with --from-scratch, got none")
    adapt, settings = chosen(config, set_ or (), steps)
    given = changes(freeze, lora, add_element, refit_references, replay, replay_weight)
    common: dict[str, Any] = {
        "adapt": {**adapt, **given},
        "validation": validation,
        "settings": settings,
        "resume": resume,
    }
    calc = HybridFF.load(start, device=device)
    with stop_on_signals() as stop:
        if test is None:
            calc = train_further(calc, frames, output=output, stop=stop, **common)
            typer.echo(f"{calc.info.name}: {output / 'model.hff'}")
            return
        found = compare(
            calc, frames, test, from_scratch=from_scratch, output=output, stop=stop, **common
        )
    typer.echo(found.markdown())
    typer.echo(f"{output / 'comparison.md'}; the model is {output / 'finetuned' / 'model.hff'}")


def chosen(
    config: Path | None, overrides: Sequence[str], steps: int | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The section adapt, and those of a training, from a file, overrides and a length."""
    import os

    from hff_ase.training.settings import read_yaml

    settings = dict(read_yaml(config or os.devnull, overrides)[0])
    adapt = dict(settings.pop("adapt", None) or {})
    if steps is not None:
        schedule = dict(settings.get("schedule") or {})
        schedule.pop("epochs", None)
        settings["schedule"] = {**schedule, "steps": steps}
    return adapt, settings


def changes(
    freeze: list[str] | None,
    lora: int | None,
    add_element: list[str] | None,
    refit_references: bool,
    replay: list[str] | None,
    replay_weight: float,
) -> dict[str, Any]:
    """The options that were given, as a section adapt has them."""
    out: dict[str, Any] = {}
    if freeze:
        out["freeze"] = freeze
    if lora is not None:
        out["lora"] = {"rank": lora}
    if add_element:
        pairs = [entry.partition(":") for entry in add_element]
        out["add_elements"] = {symbol: like or None for symbol, _, like in pairs}
    if refit_references:
        out["refit_references"] = True
    if replay:
        out["replay"] = {"frames": replay, "weight": replay_weight}
    return out
