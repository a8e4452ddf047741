"""Settings of ``hff lammps``, and of `hff_ase.dynamics.lammps.attach`, which has some of them."""

from __future__ import annotations

from typing import Literal

from hff_ase.settings import setting
from hff_ase.settings.common import MODEL, OUTPUT, PrecisionSettings
from hff_ase.settings.declare import REQUIRED


class LammpsSettings(PrecisionSettings):
    """A LAMMPS input, and the force field in it (`hff_ase.dynamics.lammps.attach`)."""

    input: str = setting(
        REQUIRED,
        "LAMMPS input with a line 'fix ID all external pf/callback 1 1'.",
        positional=True,
        metavar="INPUT",
    )
    model: str = setting(
        "electrolyte",
        "Name of a shipped model, or path of an .hff file.",
        panel=MODEL,
        metavar="MODEL",
    )
    types: tuple[str, ...] = setting(
        (),
        "Elements of the atom types, such as H,Li,C.",
        panel=MODEL,
        commas=True,
        shown="read off the masses",
    )
    charge: float = setting(0.0, "Total charge of the box.", unit="e", panel=MODEL)
    skin: float = setting(
        1.0, "Skin of the neighbour list beyond the cutoffs.", unit="Angstrom", panel=MODEL, gt=0
    )
    long_range: Literal["mesh", "pppm"] = setting(
        "mesh",
        "What sums the long range: the model's own mesh, which every rank transforms whole, or "
        "LAMMPS' PPPM, for many ranks.",
        panel=MODEL,
    )
    pppm_accuracy: float = setting(
        2e-7, "Of LAMMPS' PPPM, as in its kspace_style.", panel=MODEL, gt=0, lt=1
    )
    variable: tuple[str, ...] = setting(
        (), "Value of a variable of the input.", metavar="NAME=VALUE"
    )
    log: str = setting("log.lammps", "LAMMPS' log file.", panel=OUTPUT, metavar="FILE")


DEFAULTS = {name: field.default for name, field in LammpsSettings.model_fields.items()}
