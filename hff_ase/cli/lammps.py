"""``hff lammps``: a LAMMPS input with forces from a model, on many MPI ranks."""

from __future__ import annotations

from hff_ase.cli.command import command
from hff_ase.dynamics.lammps.settings import LammpsSettings
from hff_ase.settings import Section, setting


class RankSettings(Section):
    """How many processes are started."""

    ranks: int | None = setting(
        None, "MPI processes to start.", shown="1, or those that mpiexec or srun started", ge=1
    )


@command(LammpsSettings, RankSettings)
def lammps(config: LammpsSettings, ranks: RankSettings) -> None:
    """Run a LAMMPS input on MPI ranks, with exact charges and long-range forces."""
    from hff_ase.dynamics.lammps.launch import launch

    launch(config, ranks.ranks)
