"""What each MPI process of ``hff lammps`` does: a user's input, with the force field in it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class LammpsSettings(BaseModel):
    """Settings of ``hff lammps``.

    Attributes:
        input: the LAMMPS input.
        model, dtype, device, types, charge, skin: as `hff_ase.dynamics.lammps.attach`.
        variables: ``name=value`` for the input's variables.
        log: LAMMPS' log file.
    """

    model_config = ConfigDict(extra="forbid")

    input: Path
    model: str = "electrolyte"
    dtype: str = "float32"
    device: str = "cpu"
    types: list[str] | None = None
    charge: float = 0.0
    skin: float = 1.0
    variables: list[str] = []
    log: str = "log.lammps"


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

    from hff_ase.dynamics.lammps.attach import attach
    from hff_ase.dynamics.lammps.input_file import read_input

    parts = read_input(settings.input)
    arguments = ["-log", settings.log]
    for variable in settings.variables:
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
        asked = settings.model_dump(include={"dtype", "device", "charge", "skin"})
        attach(lmp, settings.model, settings.types, fix=parts.fix, **asked)
        lmp.file(str(files[1]))
        lmp.close()
        world.Barrier()


if __name__ == "__main__":
    run_input(LammpsSettings(**json.loads(sys.argv[1])))
