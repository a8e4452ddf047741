"""Files that commands write: refused before the work is done, not after."""

from __future__ import annotations

import os
from pathlib import Path

from hff_ase.errors import ConfigError


def check_output(output: Path, suffixes: tuple[str, ...], force: bool) -> None:
    """Refuse an output that could not be written at the end.

    Raises:
        ConfigError: another suffix, no folder to write to, or there is something already.
    """
    if output.suffix not in suffixes:
        raise ConfigError(f"expected an output that ends in {suffixes[0]}, got {output}")
    if not output.parent.is_dir():
        raise ConfigError(f"expected an existing folder for the output, got {output.parent}")
    if output.is_dir() or (output.exists() and not force):
        raise ConfigError(f"expected an output that does not exist yet (or --force), got {output}")
    if not os.access(output.parent, os.W_OK):
        raise ConfigError(f"expected a folder that can be written to, got {output.parent}")
