"""Settings: declared once each, given in Python, yaml or on the command line, checked in one way.

    class BoxSettings(Settings):
        density: float | None = setting(None, "Instead of the expected one.", unit="g/cm3", gt=0)

    BoxSettings.load("box.yaml", {"density": 1.1})

From the declaration come the check, the option ``--density`` with its help
(`hff_ase.cli.command`), the key in yaml, the row in the reference (`hff_ase.settings.reference`)
and the line that says what was wrong, and where.
"""

from __future__ import annotations

from hff_ase.settings.base import Section, Settings
from hff_ase.settings.declare import DeclaredSetting, declared, setting
from hff_ase.settings.given import Given
from hff_ase.settings.kelvin import Kelvin
from hff_ase.settings.paths import absolute
from hff_ase.settings.times import Duration, TimeConstant, TimeStep, parse_time
from hff_ase.settings.yaml_text import to_yaml

__all__ = [
    "DeclaredSetting",
    "Duration",
    "Given",
    "Kelvin",
    "Section",
    "Settings",
    "TimeConstant",
    "TimeStep",
    "absolute",
    "declared",
    "parse_time",
    "setting",
    "to_yaml",
]
