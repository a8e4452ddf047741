"""``hff md``: molecular dynamics."""

from __future__ import annotations

from pathlib import Path

from hff_ase.cli.command import Part, command_of_run
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.replicas.config import SEVERAL, ReplicaSettings
from hff_ase.settings import Given, setting
from hff_ase.settings.common import RESTART, RunSwitches


class MDSwitches(RunSwitches):
    """How a run is started or resumed."""

    extend: str | None = setting(
        None,
        "With --resume: extend the run by a time (10ps) or by a further stage (nvt:10ps).",
        panel=RESTART,
        metavar="TIME",
    )


@command_of_run(Part(MDConfig, several=SEVERAL), ReplicaSettings, switches=MDSwitches)
def md(given: Given, switches: MDSwitches) -> None:
    """Run molecular dynamics; a killed run continues bit for bit with --resume FOLDER.

    With several structures, temperatures, pressures or --replicas: many runs in one batch.
    """
    from hff_ase.allocator import keep_memory
    from hff_ase.errors import ConfigError

    keep_memory()
    if switches.resume is None:
        if switches.extend is not None:
            raise ConfigError("expected --resume FOLDER with --extend, got none")
        _start(given, switches.force)
        return
    if switches.force:
        raise ConfigError("expected either --resume or --force, got both")
    folder = switches.resume
    if str(given.get("output", folder)) != folder:
        raise ConfigError(f"expected one folder, got --resume {folder} and another output")
    _resume(given.without("output"), Path(folder), switches.extend)


def _start(given: Given, force: bool) -> None:
    from hff_ase.dynamics.replicas.config import asks_for_replicas

    if asks_for_replicas(given):
        from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun

        ReplicaRun.start(ReplicaConfig.load(given), force=force).run()
    else:
        from hff_ase.dynamics.md import MDRun

        MDRun.start(MDConfig.load(given.without(*ReplicaSettings.names())), force=force).run()


def _resume(given: Given, folder: Path, extend: str | None) -> None:
    """Continue the run in a folder, or start one that has not begun."""
    from hff_ase.dynamics.replicas.config import asks_for_replicas
    from hff_ase.dynamics.reporters.run_folder import RunFolder
    from hff_ase.errors import ConfigError

    if "structure" in given and not RunFolder(folder).has_run:
        _start(Given({"output": str(folder)}).over(given), force=False)
        return
    if extend is not None:
        given = Given({"extend": extend}, {"extend": "--extend"}).over(given)
    if _has_replicas(folder):
        from hff_ase.dynamics.replicas import ReplicaRun

        ReplicaRun.resume(folder, settings=given).run()
    elif asks_for_replicas(given):
        raise ConfigError(f"expected one system as in {folder}, got settings of replicas")
    else:
        from hff_ase.dynamics.md import MDRun

        MDRun.resume(folder, settings=given).run()


def _has_replicas(folder: Path) -> bool:
    from hff_ase.dynamics.replicas.replica_run import has_replicas
    from hff_ase.dynamics.reporters.run_folder import CHECKPOINT, RunFolder
    from hff_ase.dynamics.simulation.checkpoint import load_checkpoint

    return has_replicas(load_checkpoint(RunFolder(folder)[CHECKPOINT]))
