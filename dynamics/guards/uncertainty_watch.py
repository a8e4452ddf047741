"""Estimated errors of the forces of a run, from a companion model every few hundred steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from hff_ase.domain import Companion
from hff_ase.dynamics.guards.watch import Finding, Seen, Watch
from hff_ase.dynamics.reporters.growing_file import GrowingFile
from hff_ase.dynamics.reporters.run_folder import UNCERTAINTY, RunFolder
from hff_ase.dynamics.reporters.statistics import Moment
from hff_ase.dynamics.simulation.checkpoint import Checkpoint
from hff_ase.errors import CheckpointError, ConfigError

if TYPE_CHECKING:  # runs without it need no torch
    from hff_ase.calculators.hybrid import HybridFF

NOTE = "uncertainty"  # in the checkpoint
HEADER = (
    f"# {'step':>10} {'time[ps]':>12} {'replica':>8} {'mean_error[eV/A]':>17} "
    f"{'largest_error[eV/A]':>20} {'atom':>8}\n"
)


class UncertaintyWatch(Watch):
    """Estimates the error of the forces, records it, and reports values above the threshold.

    The estimate of an atom is the companion's factor times the spread of the two forces,
    ``|F - F'| / 2``. The companion is asked without its past: estimates do not depend on when a run
    was resumed.

    Args:
        calc: the companion.
        about: what its distance means.
        interval: steps between two looks.
        folder: of the run.
        checkpoint: where the run is; `notes` are kept up to date.

    Raises:
        SimulationError: the file is shorter than at the checkpoint, or cannot be written.
    """

    def __init__(
        self,
        calc: HybridFF,
        about: Companion,
        interval: int,
        folder: RunFolder,
        checkpoint: Checkpoint,
    ) -> None:
        self._calc, self._about, self.interval = calc, about, interval
        self._notes = checkpoint.notes
        length = checkpoint.lengths.get(UNCERTAINTY, 0)
        self._file = GrowingFile(folder[UNCERTAINTY], length)
        if not length:
            self._file.write(HEADER)

    @classmethod
    def of(
        cls, calc: Any, interval: int, folder: RunFolder, checkpoint: Checkpoint
    ) -> UncertaintyWatch | None:
        """That of a run's calculator; None where its model has no companion, or lacks terms."""
        domain = getattr(getattr(calc, "info", None), "domain", None)
        about = getattr(domain, "companion", None)
        if not interval or about is None or not hasattr(calc, "potential"):
            return None
        terms = {name for name, _ in calc.potential.named_terms()}
        if set(calc.info.trained_with) - terms:
            return None
        from hff_ase.calculators.hybrid import HybridFF

        try:
            companion = HybridFF.load(about.model, device=str(calc.device))
        except (CheckpointError, ConfigError) as error:
            folder.log(f"no estimate of the error of forces: {error}")
            return None
        return cls(companion, about, interval, folder, checkpoint)

    def look(self, moment: Moment, seen: Sequence[Seen]) -> list[Finding]:
        """Write down the errors; a structure above the threshold is reported once."""
        if not seen:
            return []
        found = self._calc.evaluate([bare(one.atoms) for one in seen])
        note = self._notes.setdefault(
            NOTE, {"looks": 0, "above": 0, "sum": 0.0, "largest": 0.0, "told": []}
        )
        told: list[Finding] = []
        for one, other in zip(seen, found, strict=True):
            forces = np.asarray(one.results["forces"])
            apart = np.linalg.norm(forces - other["forces"], axis=1) / 2
            errors = self._about.factor * apart
            mean, worst = float(errors.mean()), int(errors.argmax())
            self._file.write(
                f"  {moment.step:10d} {moment.time:12.6g} {one.replica:8d} {mean:17.6g} "
                f"{errors[worst]:20.6g} {worst:8d}\n"
            )
            note["looks"] += 1
            note["sum"] += mean
            note["largest"] = max(note["largest"], mean)
            if not mean <= self._about.threshold:
                note["above"] += 1
                if one.replica not in note["told"]:
                    note["told"].append(one.replica)
                    text = self._text(one, mean, float(errors[worst]), worst)
                    told.append(Finding(one.replica, text, warning=True))
        return told

    def _text(self, one: Seen, mean: float, largest: float, worst: int) -> str:
        return (
            f"the forces are uncertain by {mean:.3g} eV/A on average and by "
            f"{largest:.3g} on atom {worst} ({one.atoms.symbols[worst]}), above the "
            f"{self._about.threshold:.3g} that the model had on any frame of its domain"
        )

    def summary(self) -> dict[str, Any]:
        """Estimated errors, eV/Angstrom, and how often they were above the threshold."""
        note = self._notes.get(NOTE)
        if not note or not note["looks"]:
            return {}
        told = {
            "companion": self._about.model,
            "force_error[eV/A]": round(note["sum"] / note["looks"], 4),
            "largest_force_error[eV/A]": round(note["largest"], 4),
            "threshold[eV/A]": self._about.threshold,
            "looks": note["looks"],
            "above_threshold": note["above"],
        }
        return {NOTE: told}

    def sync(self) -> dict[str, int]:
        """Bring the file to the disk; its length, for the checkpoint."""
        return {UNCERTAINTY: self._file.sync()}

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def bare(atoms: Atoms) -> Atoms:
    """A copy without calculator and constraints, for models that ASE would let share results."""
    copy = atoms.copy()
    copy.set_constraint()
    return copy
