"""A user's LAMMPS input, cut where the force field comes in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from hff_ase.errors import ConfigError

HERE = re.compile(r"^\s*fix\s+(\S+)\s+all\s+external\s+pf/callback\s+1\s+1\s*(#.*)?$")
RESPA = re.compile(r"^\s*run_style\s+respa\b")
LINE = "fix hff all external pf/callback 1 1"


class Input(NamedTuple):
    """What comes before the force field, the ID of its fix, and what comes after."""

    before: str
    fix: str
    after: str


def read_input(path: Path) -> Input:
    """Cut an input at its line ``fix ID all external pf/callback 1 1``.

    Raises:
        ConfigError: no such file, not one such line, or an integrator that asks no fix for forces.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected a LAMMPS input, got {path}: {error}") from error
    found = [(k, match[1]) for k, line in enumerate(lines) if (match := HERE.match(line))]
    if len(found) != 1:
        raise ConfigError(
            f"expected one line {LINE!r} in {path}, behind the atoms and before the first run, "
            f"got {len(found) or 'none'}"
        )
    if any(RESPA.match(line) for line in lines):
        raise ConfigError(
            f"expected run_style verlet in {path}, got respa: it asks no fix for forces"
        )
    place, fix = found[0]
    return Input("".join(lines[:place]), fix, "".join(lines[place + 1 :]))
