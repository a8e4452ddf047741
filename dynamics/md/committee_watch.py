"""A committee that watches a run: where models disagree it stops, or frames are collected."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.io import write

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.guards.checks import name_atom
from hff_ase.dynamics.guards.uncertainty_watch import bare
from hff_ase.dynamics.guards.watch import Finding, Seen, Watch
from hff_ase.dynamics.reporters.growing_file import GrowingFile
from hff_ase.dynamics.reporters.run_folder import NAMES, SPREAD, RunFolder
from hff_ase.dynamics.reporters.statistics import Moment
from hff_ase.dynamics.simulation.checkpoint import Checkpoint
from hff_ase.errors import ConfigError

if TYPE_CHECKING:  # runs without a committee need no torch
    from hff_ase.calculators.committee import Committee
    from hff_ase.calculators.spread import Spread


HEADER = (
    f"# {'step':>10} {'time[ps]':>12} {'energy[eV/atom]':>16} {'mean[eV/A]':>14} "
    f"{'largest[eV/A]':>14} {'atom':>8} {'collected':>10}\n"
)


def assemble(
    config: MDConfig, calc: Any, members: Sequence[Any] | None
) -> tuple[Any, Committee | None]:
    """What moves the atoms, and the committee of it and the further `members` (None without any).

    Raises:
        ConfigError: a threshold without a committee, or a file that the run needs itself.
    """
    if not members:
        if config.max_spread is not None:
            raise ConfigError("expected a committee of models with max_spread, got none")
        return calc, None
    from hff_ase.calculators.committee import Committee

    if config.collect in (*NAMES, SPREAD):
        raise ConfigError(f"expected another file to collect frames in, got {config.collect}")
    committee = Committee([calc, *members], drive=config.committee_drive)
    return (committee if config.committee_drive == "mean" else calc), committee


def refuse_collected(config: MDConfig, folder: RunFolder, force: bool) -> None:
    """Refuse to start over the frames that another run collected.

    Raises:
        ConfigError: there are some (without ``force``).
    """
    path = None if config.collect is None else folder[config.collect]
    if path is not None and path.exists() and path.stat().st_size and not force:
        raise ConfigError(
            f"expected a new file to collect frames in (or --force), got {path} with some in it"
        )


class CommitteeWatch(Watch):
    """Evaluates the spread of the committee every few steps.

    The files and the step of the last frame are part of the checkpoint, so that a killed run
    collects the same frames as one that was not. Members of this package are asked without their
    past: their results do not depend on when the run was resumed. Other calculators may keep lists
    (ASE's LennardJones does), and sum in another order after a restart: digits beyond those that
    are written.

    Args:
        committee: the first member is the model of the run.
        config: thresholds, intervals and the file.
        folder: of the run; a relative `config.collect` lies in it.
        checkpoint: where the run is; `notes` are kept up to date.

    Raises:
        SimulationError: a file is shorter than at the checkpoint, or cannot be written.
    """

    def __init__(
        self, committee: Committee, config: MDConfig, folder: RunFolder, checkpoint: Checkpoint
    ) -> None:
        self._committee, self._config = committee, config
        self.interval = config.look_interval
        self._notes = checkpoint.notes
        self._table = GrowingFile(folder[SPREAD], checkpoint.lengths.get(SPREAD, 0))
        self._files = {SPREAD: self._table}
        if not checkpoint.lengths.get(SPREAD, 0):
            self._table.write(HEADER)
        self._collected: GrowingFile | None = None
        if config.collect is not None:
            path: Path = folder[config.collect]
            length = checkpoint.lengths.get(config.collect, 0)
            self._collected = self._files[config.collect] = GrowingFile(path, length)

    def look(self, moment: Moment, seen: Sequence[Seen]) -> list[Finding]:
        """Write down the spread on the one structure; above the threshold the frame is collected,
        or stops the run."""
        (one,) = seen
        spread = self._spread(one.atoms, one.results)
        value = spread.largest(self._config.spread_quantile)
        limit = self._config.max_spread
        above = limit is not None and not value <= limit
        keep = above and self._collected is not None and self._far_enough(moment.step)
        self._table.write(table_row(moment, spread, keep))
        if above and self._collected is None:
            return [Finding(one.replica, disagreement(one.atoms, spread, self._config), stops=True)]
        if keep and self._collected is not None:
            self._collected.write(spread_frame(one.atoms, moment, spread))
            collected = int(self._notes.get("collected", 0)) + 1
            self._notes.update(collected=collected, last_collected=moment.step)
        return []

    def sync(self) -> dict[str, int]:
        """Sync the files to disk; returns their lengths, for the checkpoint."""
        return {name: file.sync() for name, file in self._files.items()}

    def summary(self) -> dict[str, Any]:
        """How many frames the whole run has collected."""
        return {"collected": int(self._notes.get("collected", 0))}

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _far_enough(self, step: int) -> bool:
        last = self._notes.get("last_collected")
        return last is None or step - last >= self._config.collect_spacing

    def _spread(self, atoms: Atoms, results: Mapping[str, Any]) -> Spread:
        from hff_ase.calculators.spread import spread_of

        committee = self._committee
        if committee.drive == "mean" and committee.spread is not None:
            return committee.spread  # of the step that it has just driven
        others = committee.evaluate_members([bare(atoms)], skip=1)[0]
        return spread_of([results, *others])


def disagreement(atoms: Atoms, spread: Spread, config: MDConfig) -> str:
    """What stops a run, in words."""
    worst = int(np.argmax(spread.forces))
    text = (
        f"the committee disagrees on {name_atom(atoms, worst)}: its force has a spread of "
        f"{spread.forces[worst]:.3g} eV/A"
    )
    if config.spread_quantile < 1:
        value = spread.largest(config.spread_quantile)
        text += f", the {config.spread_quantile:g} quantile of all is {value:.3g} eV/A"
    return f"{text} (limit {config.max_spread:g} eV/A)"


def table_row(moment: Moment, spread: Spread, collected: bool) -> str:
    """A row of spread.dat; the atom is the one with the largest spread."""
    worst = int(np.argmax(spread.forces))
    energy = spread.energy / len(spread.forces)
    return (
        f"  {moment.step:10d} {moment.time:12.6g} {energy:16.8g} {spread.forces.mean():14.6g} "
        f"{spread.forces[worst]:14.6g} {worst:8d} {int(collected):10d}\n"
    )


def spread_frame(atoms: Atoms, moment: Moment, spread: Spread) -> str:
    """A frame as extended xyz: positions, cell, total charge, and spreads.

    It holds no energy and no forces: those of the model must not be taken for labels. The spread of
    the energy, a difference of large numbers, has the digits of spread.dat.
    """
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if "charge" in atoms.info:
        copy.info["charge"] = atoms.info["charge"]
    energy = float(f"{spread.energy:.8g}")
    copy.info.update(step=moment.step, time_ps=moment.time, energy_spread=energy)
    copy.set_array("forces_spread", spread.forces)
    text = io.StringIO()
    write(text, copy, format="extxyz")
    return text.getvalue()
