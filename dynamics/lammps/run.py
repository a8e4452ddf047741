"""What each MPI process of ``hff lammps`` does: a user's input, with the force field in it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from hff_ase.settings import setting
from hff_ase.settings.common import MODEL, OUTPUT, PrecisionSettings
from hff_ase.settings.declare import REQUIRED

# what `attach` takes under the same names
ASKED = {"dtype", "device", "charge", "skin", "long_range", "pppm_accuracy"}


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


def run_input(settings: LammpsSettings) -> None:
    """Run the input on this process; every process of MPI's world calls this, and an error in one
    ends them all."""
    from mpi4py import MPI  # before LAMMPS: it finds the library that both use

    from hff_ase.dynamics.lammps.stopping import stop

    try:
        _run(settings, MPI.COMM_WORLD)
    except BaseException as error:
        stop(error, MPI.COMM_WORLD)


def _run(settings: LammpsSettings, world: Any) -> None:
    from lammps import lammps

    from hff_ase.dynamics.lammps.attaching import attach
    from hff_ase.dynamics.lammps.input_file import read_input

    parts = read_input(Path(settings.input))
    arguments = ["-log", settings.log]
    for variable in settings.variable:
        name, _, value = variable.partition("=")
        arguments += ["-var", name, *value.split()]
    lmp = lammps(cmdargs=arguments)
    # as files, and by the first process: `jump SELF` and `label` want one
    with tempfile.TemporaryDirectory(prefix="hff-lammps-") as folder:
        folder = world.bcast(folder)
        files = [Path(folder, name) for name in ("before.in", "after.in")]
        if world.rank == 0:
            for file, text in zip(files, (parts.before, parts.after), strict=True):
                file.write_text(text, encoding="utf-8")
        world.Barrier()
        lmp.file(str(files[0]))
        attached = attach(
            lmp,
            settings.model,
            settings.types or None,
            fix=parts.fix,
            **settings.model_dump(include=ASKED),
        )
        lmp.file(str(files[1]))
        attached.close()
        lmp.close()
        world.Barrier()


if __name__ == "__main__":
    run_input(LammpsSettings.load(json.loads(sys.argv[1])))
