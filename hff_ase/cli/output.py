"""Outputs of commands, checked before the work is done instead of after."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from hff_ase.errors import ConfigError
from hff_ase.settings import Settings, setting
from hff_ase.settings.common import OUTPUT


class OutputFile(Settings):
    """Output of commands that write a file; subclasses give `suffixes` and `output`'s default."""

    suffixes: ClassVar[tuple[str, ...]] = ()

    output: str = setting("", "File to write.", short="-o", panel=OUTPUT, metavar="FILE")
    force: bool = setting(False, "Replace existing files.", panel=OUTPUT)

    def target(self) -> Path:
        """The file, which can be written.

        Raises:
            ConfigError: as `check_output`.
        """
        check_output(Path(self.output), self.suffixes, self.force)
        return Path(self.output)


class OutputFolder(Settings):
    """Output of commands that write a folder; subclasses give its default and a results file."""

    results: ClassVar[str] = ""

    output: str = setting("", "Folder to write to.", short="-o", panel=OUTPUT, metavar="FOLDER")
    force: bool = setting(False, "Replace existing files.", panel=OUTPUT)

    def target(self) -> Path:
        """The folder, which can be written to or made.

        Raises:
            ConfigError: it holds results already, is a file, or cannot be made.
        """
        output = Path(self.output)
        if output.exists() and not output.is_dir():
            raise ConfigError(f"expected a folder for the results, got the file {output}")
        if (output / self.results).exists() and not self.force:
            raise ConfigError(f"expected a folder without results (or --force), got {output}")
        place = output if output.is_dir() else output.parent
        if not place.is_dir():
            raise ConfigError(f"expected an existing folder for {output}, got none at {place}")
        if not os.access(place, os.W_OK):
            raise ConfigError(f"expected a folder that can be written to, got {place}")
        return output


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
