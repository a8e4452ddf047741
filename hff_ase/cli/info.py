"""``hff info``: versions, devices and what is installed."""

from __future__ import annotations

from typing import Any

import typer

from hff_ase.cli.command import command
from hff_ase.settings.common import PrintSettings

REQUIRED = ("ase", "numpy", "scipy", "torch", "vesin", "safetensors", "packmol", "matplotlib")
OPTIONAL = ("rdkit", "dftd3", "torch-pme")


@command(PrintSettings)
def info(config: PrintSettings) -> None:
    """Print versions, devices and what is installed (for bug reports)."""
    import json

    facts = gather()
    typer.echo(
        json.dumps(facts, indent=1)
        if config.json_
        else "\n".join(f"{key:<22} {value}" for key, value in facts.items())
    )


def gather() -> dict[str, Any]:
    """Everything that `info` prints."""
    import os
    import platform
    import sys
    from importlib.metadata import PackageNotFoundError, version

    import torch

    import hff_ase
    from hff_ase.models import available_models

    facts: dict[str, Any] = {
        "hff_ase": hff_ase.__version__,
        "location": os.path.dirname(hff_ase.__file__),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no device",
    }
    for name in (*REQUIRED, *OPTIONAL):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed" + (" (optional)" if name in OPTIONAL else "")
    facts["models"] = ", ".join(available_models()) or "none"
    return facts
