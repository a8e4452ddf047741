"""``hff properties``: from recipes to properties.json and report.html, resumable.

request = Request(("DMC",), (298.15,), model="electrolyte", budget=3.0)
PropertyRun.start("run", request).run()
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any

from rich.console import Console

from hff_ase.dynamics.properties.analysis import Analysis, analyse
from hff_ase.dynamics.properties.fits import fits_of
from hff_ase.dynamics.properties.page.render import REPORT, write_report
from hff_ase.dynamics.properties.planning import Lengths, lengths_of, load, measure_speed
from hff_ase.dynamics.properties.progress import folder_of, note, notes_of, states_of_run
from hff_ase.dynamics.properties.request import MAY_CHANGE, REQUEST, Point, Request, read_request
from hff_ase.dynamics.properties.stages import (
    NPT,
    NVT,
    Builder,
    at_constant_pressure,
    at_constant_volume,
    build,
    equilibrated,
    packed,
)
from hff_ase.dynamics.properties.state import StatePoint
from hff_ase.dynamics.properties.table import as_dict, write_analysis
from hff_ase.errors import ConfigError, SimulationError, StoppedError

__all__ = ["PropertyRun"]


class PropertyRun:
    """A request in its folder; make one with `start` or `resume`, then call `run`.

    Args:
        folder: of everything.
        request: what is asked.
        calc: a HybridFF; None loads the model where it is needed.
        builder: makes a box of a recipe, a number of atoms and a seed.
        console: where to show progress.
    """

    def __init__(
        self,
        folder: str | Path,
        request: Request,
        calc: Any = None,
        builder: Builder = build,
        console: Console | None = None,
    ) -> None:
        self.folder, self.request = Path(folder), request
        self._given, self._builder = calc, builder
        self._console = console or Console()
        self._started = time.monotonic()

    @classmethod
    def start(
        cls,
        folder: str | Path,
        request: Request,
        calc: Any = None,
        *,
        builder: Builder = build,
        console: Console | None = None,
    ) -> PropertyRun:
        """Check what can be checked, and put the request into the folder.

        Args:
            folder, request, calc, builder, console: as for the class.

        Raises:
            SimulationError: the folder holds such a run.
            RecipeError, ConfigError, OutsideDomainError: what `check_feasible` refuses.
        """
        place = Path(folder)
        if (place / REQUEST).exists():
            raise SimulationError(
                f"expected a folder without a run of hff properties, got {place}; continue it with "
                f"--resume {place}"
            )
        request.check_lengths()
        if builder is build:
            from hff_ase.dynamics.build import parse_recipe
            from hff_ase.dynamics.properties.feasible import check_feasible

            if calc is None:
                check_feasible(request)
            recipes = tuple(str(parse_recipe(one)) for one in request.recipes)
            request = request.model_copy(update={"recipe": recipes, "concentration": ()})
        place.mkdir(parents=True, exist_ok=True)
        request.write(place)
        return cls(place, request, calc, builder, console)

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        calc: Any = None,
        *,
        settings: Mapping[str, Any] | None = None,
        builder: Builder = build,
        console: Console | None = None,
    ) -> PropertyRun:
        """Continue the request in a folder.

        Args:
            folder: where it is.
            calc, builder, console: as for the class.
            settings: what is asked for now, of `MAY_CHANGE`.

        Raises:
            ConfigError: no such run, or a setting that may not change.
        """
        request = read_request(folder)
        foreign = set(settings or {}) - set(MAY_CHANGE)
        if foreign:
            raise ConfigError(
                f"expected the request of {folder}, got another {min(foreign)}; only "
                f"{', '.join(MAY_CHANGE)} may change"
            )
        if settings:
            request = Request.load(request, settings)
            request.write(Path(folder))
        return cls(folder, request, calc, builder, console)

    def place(self, point: Point) -> Path:
        """The folder of a state point."""
        return folder_of(self.folder, point)

    def run(self) -> Analysis:
        """Continue with every state point to its end, analyse and write the page.

        Raises:
            StoppedError: stopped by a signal; what is there can be resumed.
            SimulationError: as the runs themselves.
        """
        points, found = self.request.points, None
        for number, point in enumerate(points):
            self.say(f"{point.name} ({number + 1} of {len(points)})")
            try:
                self.advance(point, self._hours_left(len(points) - number))
            except StoppedError as error:
                raise self._stopped(point, error) from error
            found = self.analyse()
        self.say(str(self.folder / REPORT))
        return found or self.analyse()

    def analyse(self, points: Sequence[Point] | None = None) -> Analysis:
        """Analyse what is there and write properties.json, curves.json and report.html.

        Args:
            points: of these state points; None for all that have begun.

        Raises:
            SimulationError: nothing yet.
        """
        found = analyse(self.states(points), self.request.property_)
        states = as_dict(found)["states"]
        about = {
            "request": REQUEST,
            "hours": round(self._spent(), 4),
            "fits": [fit.as_dict() for fit in fits_of(states)],
        }
        analysis = replace(found, about=about)
        write_analysis(analysis, self.folder)
        write_report(self.folder)
        return analysis

    def states(self, points: Sequence[Point] | None = None) -> list[StatePoint]:
        """What the state points have given so far.

        Args:
            points: these; None for all that have begun.

        Raises:
            SimulationError: nothing yet.
        """
        return states_of_run(self.folder, self.request, points)

    # --- one state point ----------------------------------------------------------------------

    def advance(self, point: Point, hours: float | None) -> None:
        """Run every unfinished stage of a state point.

        Args:
            point: of the request.
            hours: for it; None where lengths are given.

        Raises:
            StoppedError: stopped by a signal; what is there can be resumed.
            SimulationError: as the runs themselves.
        """
        place, before = self.place(point), self._spent()
        place.mkdir(parents=True, exist_ok=True)
        boxes = packed(place, point, self.request, self._builder)
        lengths = self._lengths(place, boxes, hours)
        request = self.request.with_lengths(lengths.npt, lengths.nvt, lengths.settle)
        notes = notes_of(place)
        calc = self._calculator()
        if "equilibrate" not in notes:
            told = equilibrated(place, boxes, point, request, calc, self._console)
            note(place, "equilibrate", told)
            if told != "settled":
                self.say(f"continuing anyway: {told}")
        for name, carry_on in ((NPT, at_constant_pressure), (NVT, at_constant_volume)):
            if name == NVT and not self.request.needs_volume:
                continue
            left = None if hours is None else max(hours - (self._spent() - before), 1e-3)
            last = name == NVT or not self.request.needs_volume
            try:
                carry_on(place, point, request, calc, self._console, left if last else None)
            except StoppedError as error:
                if "max_hours" not in str(error):
                    raise
                self.say(f"{name} ends with the budget: {error}")
        if request.needs_gas:
            from hff_ase.dynamics.properties.gas_stage import run_gas

            run_gas(place, point, request, calc, self._console)

    def _stopped(self, point: Point, error: StoppedError) -> StoppedError:
        """The error with the command that continues the whole run instead of one of its stages."""
        name = Signals(error.exit_code - 128).name
        return StoppedError(
            f"stopped by {name} at {point.name}; continue with hff properties --resume "
            f"{self.folder}",
            name,
        )

    def _lengths(self, place: Path, boxes: list[Any], hours: float | None) -> Lengths:
        """Production lengths, chosen once for a state point and stored in its folder."""
        kept = notes_of(place).get("lengths")
        if kept is not None:
            return Lengths(**kept)
        request = self.request
        if hours is None or (request.npt and (request.nvt or not request.needs_volume)):
            lengths = Lengths(request.npt or "100ps", request.nvt or "100ps", None)
        else:
            speed = measure_speed(self._calculator(), boxes)
            lengths = lengths_of(request, hours, speed)
            self.say(
                f"{1e3 * speed:.3g} ms/step for {len(boxes)} boxes: {lengths.npt} at constant "
                f"pressure, {lengths.nvt} at constant volume"
            )
        note(place, "lengths", vars(lengths))
        return lengths

    # --- bookkeeping --------------------------------------------------------------------------

    def _calculator(self) -> Any:
        if self._given is None:
            self._given = load(self.request)
        return self._given

    def _hours_left(self, n_points: int) -> float | None:
        """Hours of the budget left for each remaining state point."""
        if self.request.hours is None:
            return None
        return max((self.request.hours - self._spent()) / n_points, 1e-3)

    def _spent(self) -> float:
        """Hours since this run was started or resumed."""
        return (time.monotonic() - self._started) / 3600.0

    def say(self, message: str) -> None:
        """Show a line of progress, where it is asked for."""
        if self.request.progress:
            self._console.print(message, markup=False, highlight=False, soft_wrap=True)
