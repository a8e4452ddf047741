"""``hff conditioning``: which combinations of parameters targets determine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def conditioning(
    model: Annotated[str, typer.Argument(help="Name of a model or an .hff file.")],
    targets: Annotated[Path, typer.Option(help="Table: .csv or .yaml (docs/calibration.md).")],
    runs: Annotated[
        list[Path], typer.Option(help="Folders of runs of this model (hff md, hff equilibrate).")
    ],
    parameters: Annotated[
        list[str] | None,
        typer.Option(help="physical (default), heads, lora, or patterns of names."),
    ] = None,
    frames: Annotated[
        list[Path] | None,
        typer.Option(help="Files of labelled frames: what the targets would cost in forces."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for page, numbers and figure.")
    ] = Path("conditioning"),
    unsettled: Annotated[
        bool, typer.Option("--unsettled", help="Take runs that have not settled.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Only each so many frames.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Which combinations of parameters the targets determine, and what they would cost."""
    import json

    from hff_ase.calculators.finetune.conditioning import conditioning as report_of
    from hff_ase.calculators.finetune.conditioning_plot import plot_conditioning
    from hff_ase.calculators.finetune.targets import read_targets
    from hff_ase.calculators.hybrid import HybridFF
    from hff_ase.dynamics.sampling.lookup import with_reference
    from hff_ase.dynamics.sampling.reading import read_ensembles
    from hff_ase.files import write_whole
    from hff_ase.training.adapt.replay import read_all

    found = report_of(
        HybridFF.load(model, device=device),
        read_ensembles(runs, every, unsettled),
        with_reference(read_targets(targets)),
        parameters or ["physical"],
        frames=read_all(list(frames)) if frames else (),
    )
    output.mkdir(parents=True, exist_ok=True)
    page = f"# Conditioning of {model}\n\n![](conditioning.png)\n\n{found.markdown()}"
    write_whole(output / "conditioning.md", page.encode())
    text = json.dumps(found.as_dict(), indent=1) + "\n"
    write_whole(output / "conditioning.json", text.encode())
    plot_conditioning(found, output / "conditioning.png")
    typer.echo(found.markdown().rstrip())
