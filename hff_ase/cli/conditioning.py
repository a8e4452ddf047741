"""``hff conditioning``: which combinations of parameters targets determine."""

from __future__ import annotations

from pathlib import Path

import typer

from hff_ase.cli.align import TargetSettings
from hff_ase.cli.calibrate import ForceSettings, LineSettings
from hff_ase.cli.command import command
from hff_ase.cli.output import OutputFolder
from hff_ase.dynamics.sampling.config import SAMPLING
from hff_ase.settings import setting


class ConditioningConfig(TargetSettings, ForceSettings, LineSettings, OutputFolder):
    """Targets and parameters whose conditioning is shown."""

    results = "conditioning.json"
    defaults = {"output": "conditioning"}  # noqa: RUF012

    every: int = setting(1, "Use every n-th frame of the runs.", panel=SAMPLING, ge=1)


@command(ConditioningConfig)
def conditioning(config: ConditioningConfig) -> None:
    """Show which combinations of parameters the targets determine, and at what cost."""
    import json

    from hff_ase.calculators.finetune.conditioning import conditioning as report_of
    from hff_ase.calculators.finetune.conditioning_plot import plot_conditioning
    from hff_ase.calculators.finetune.targets import read_targets
    from hff_ase.calculators.hybrid import HybridFF
    from hff_ase.dynamics.sampling.lookup import with_reference
    from hff_ase.dynamics.sampling.reading import read_ensembles
    from hff_ase.errors import ConfigError
    from hff_ase.files import write_whole
    from hff_ase.training.adapt.replay import read_all

    output = config.target()
    if not (config.runs or config.responses):
        raise ConfigError("expected --runs of the model, got none")
    calc = HybridFF.load(config.model, device=config.device)
    found = report_of(
        calc,
        read_ensembles([Path(run) for run in config.runs], config.every, config.unsettled),
        with_reference(read_targets(Path(config.targets))),
        list(config.parameters),
        frames=read_all([Path(path) for path in config.frames]) if config.frames else (),
        responses=config.lines(calc, config.parameters),
    )
    output.mkdir(parents=True, exist_ok=True)
    page = f"# Conditioning of {config.model}\n\n![](conditioning.png)\n\n{found.markdown()}"
    write_whole(output / "conditioning.md", page.encode())
    text = json.dumps(found.as_dict(), indent=1) + "\n"
    write_whole(output / "conditioning.json", text.encode())
    plot_conditioning(found, output / "conditioning.png")
    typer.echo(found.markdown().rstrip())
