"""Watches of a run: they check structures at intervals, report what they find, or stop the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase import Atoms

from hff_ase.dynamics.reporters.statistics import Moment


@dataclass(frozen=True)
class Seen:
    """A structure of a run at one moment.

    Attributes:
        replica: its number; 0 where there is one.
        atoms: positions not wrapped, Angstrom.
        results: ASE's, of what moves them: ``energy``, eV; ``forces`` [n_atoms, 3], eV/Angstrom.
    """

    replica: int
    atoms: Atoms
    results: Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A finding of a watch about a structure.

    Attributes:
        replica: its number.
        text: in words.
        stops: whether it cannot continue like this.
        warning: whether it is reported as a warning.
    """

    replica: int
    text: str
    stops: bool = False
    warning: bool = False


class Watch(ABC):
    """Looks at the structures of a run after every ``interval`` steps.

    What it remembers lies in the notes and the lengths of files of the run's checkpoint: a run that
    is resumed finds what one that was never stopped finds.
    """

    interval: int

    @abstractmethod
    def look(self, moment: Moment, seen: Sequence[Seen]) -> Sequence[Finding]:
        """Look at structures after a step; what is new.

        Raises:
            WriteError: a file of this watch cannot be written.
        """

    def aside(self, atoms: Atoms) -> str:
        """What this watch finds when something else stops the run; usually nothing."""
        return ""

    def sync(self) -> dict[str, int]:
        """Bring files to the disk; their lengths in bytes by name, for the checkpoint."""
        return {}

    def summary(self) -> dict[str, Any]:
        """Entries of the summary of the run."""
        return {}

    def close(self) -> None:  # noqa: B027  # most have none
        """Close files."""


def findings(
    watches: Sequence[Watch], moment: Moment, see: Callable[[], Sequence[Seen]]
) -> Iterator[Finding]:
    """What the watches that are due at a step find, one watch after another.

    Args:
        watches: in the order in which they look.
        moment: of the step.
        see: gives the structures that are left; asked anew by each watch, where it is due.
    """
    for watch in watches:
        if moment.step % watch.interval == 0:
            yield from watch.look(moment, see())
