"""``hff ipi-path``: where the driver for i-PI is."""

from __future__ import annotations

import typer


def ipi_path() -> None:
    """Print the path of the i-PI driver, for i-pi-py_driver -m custom -P PATH."""
    from hff_ase.dynamics.pimd.force_fields import driver_path

    typer.echo(driver_path())
