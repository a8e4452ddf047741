"""Molecules that break or react: whether that stops a run or is only reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ase import Atoms

from hff_ase.dynamics.guards.bond_watch import BondWatch
from hff_ase.dynamics.guards.checks import CONTACT_INTERVAL
from hff_ase.dynamics.guards.watch import Finding, Seen, Watch
from hff_ase.dynamics.reporters.statistics import Moment

NOTE = "bonds"  # in the checkpoint, and in the summary
MOST = 100  # events that a summary holds


class MoleculeWatch(Watch):
    """Looks whether bonds of the start have broken, or others formed.

    Args:
        starts: the structures in which bonds are found, by number of the replica.
        mode: "stop" a structure with such an event, "report" it, or "off", not to look.
        notes: of the checkpoint, where events are to be in the summary.
    """

    interval = CONTACT_INTERVAL

    def __init__(
        self,
        starts: Mapping[int, Atoms],
        mode: Literal["stop", "report", "off"],
        notes: dict[str, Any] | None = None,
    ) -> None:
        self._mode, self._notes = mode, notes
        followed = starts.items() if mode != "off" else ()
        self._bonds = {replica: BondWatch(atoms) for replica, atoms in followed}

    def look(self, moment: Moment, seen: Sequence[Seen]) -> list[Finding]:
        """What broke or formed since the last look: of each structure all, or one that stops it."""
        found: list[Finding] = []
        for one in seen:
            events = self._bonds[one.replica].look(one.atoms) if self._bonds else []
            if events and self._mode == "stop":
                more = f" ({len(events)} such events)" if len(events) > 1 else ""
                text = (
                    f"{events[0].text}{more}; if that is intended, continue with "
                    "--bond-watch report or off"
                )
                found.append(Finding(one.replica, text, stops=True))
                continue
            for event in events:
                found.append(Finding(one.replica, event.text))
                self._note(moment, event.text)
        return found

    def aside(self, atoms: Atoms) -> str:
        """Which molecule it began with, if bonds say so; for runs of one structure."""
        events = self._bonds[0].look(atoms) if self._bonds else []
        return events[0].text if events else ""

    def summary(self) -> dict[str, Any]:
        """The events so far, at most `MOST`."""
        return {NOTE: self._notes[NOTE]} if self._notes and NOTE in self._notes else {}

    def _note(self, moment: Moment, text: str) -> None:
        if self._notes is None:
            return
        events = self._notes.setdefault(NOTE, [])
        if len(events) < MOST:
            events.append({"step": moment.step, "event": text})
