"""The request of ``hff properties``: every setting, checked, to and from request.yaml."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from hff_ase.errors import ConfigError
from hff_ase.settings import Duration, Kelvin, TimeStep, setting
from hff_ase.settings.common import MODEL, ModelSettings, TermSettings
from hff_ase.settings.declare import REQUIRED

__all__ = ["Request"]

REQUEST = "request.yaml"
WHAT, SPENT, RUNS = "What", "How much", "How it is run"
HOURS = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0, "d": 24.0}
MAY_CHANGE = ("npt", "nvt", "gas", "budget", "property", "progress")  # when a run is resumed


@dataclass(frozen=True)
class Point:
    """One state point of a request: a liquid at a temperature."""

    recipe: str
    temperature: float

    @property
    def name(self) -> str:
        """Name of the state point in messages."""
        return f"{self.recipe}, {self.temperature:g} K"


class Request(ModelSettings, TermSettings):
    """Liquids, temperatures, the requested ``property`` list, and the budget."""

    recipe: tuple[str, ...] = setting(
        REQUIRED,
        "Recipe as for hff build, '1.0 M LiPF6 in EC:DMC 1:1 w/w'; or several.",
        positional=True,
        metavar="RECIPE",
    )
    temperature: tuple[Kelvin, ...] = setting(
        (298.15,), "Temperatures for every recipe.", unit="K", panel=WHAT, commas=True
    )
    concentration: tuple[float, ...] = setting(
        (),
        "Salt concentrations, in the unit of the recipe, to use instead of its own.",
        panel=WHAT,
        commas=True,
    )
    pressure: float = setting(1.0, "Pressure of the barostat.", unit="bar", panel=WHAT)
    property_: tuple[str, ...] = setting(
        (),
        "Properties, such as density,viscosity; hff analyse --list names them.",
        panel=WHAT,
        commas=True,
        shown="all usual ones",
        alias="property",
    )
    budget: str | None = setting(
        None,
        "Wall time for everything, such as 3h or 45min; it sets the lengths of the runs.",
        panel=SPENT,
        metavar="TIME",
    )
    npt: Duration | None = setting(
        None,
        "Length of the run of each box at constant pressure.",
        panel=SPENT,
        shown="by the budget",
    )
    nvt: Duration | None = setting(
        None,
        "Length of the run of each box at constant volume.",
        panel=SPENT,
        shown="by the budget",
    )
    replicas: int = setting(
        4, "Number of boxes per state point, packed differently.", panel=SPENT, ge=1, le=1000
    )
    atoms: int = setting(300, "Number of atoms in a box.", panel=SPENT, ge=1)
    timestep: TimeStep = setting(
        1.0, "Time step at constant volume, with real masses.", unit="fs", panel=RUNS
    )
    settle: Duration = setting(
        "5ps", "Langevin dynamics at constant volume before data are taken.", panel=RUNS
    )
    max_settling: Duration | None = setting(
        None,
        "Longest equilibration at constant pressure, settled or not.",
        panel=RUNS,
        shown="200ps, or by the budget",
    )
    gas: Duration = setting(
        "20ps",
        "Length of the run of each single molecule, for the heat of vaporisation.",
        panel=SPENT,
    )
    seed: int = setting(0, "Seed of packing, velocities and noise.", panel=RUNS, ge=0, lt=2**32)
    outside_domain: bool = setting(
        False, "Run even with molecules that the model was not trained on.", panel=MODEL
    )
    progress: bool = setting(True, "Show progress on the screen.", panel=RUNS)
    equilibration: dict[str, Any] = setting({}, "Further settings of hff equilibrate.", panel=RUNS)
    production: dict[str, Any] = setting(
        {}, "Further settings of hff md for production.", panel=RUNS
    )

    @field_validator("budget")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        if value is not None:
            hours_of(value)
        return value

    @field_validator("recipe", "temperature", "concentration")
    @classmethod
    def _each_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(value)) < len(value):
            raise ConfigError(f"expected each once, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _enough(self) -> Request:
        if not self.recipe or not self.temperature:
            raise ConfigError("expected recipes and temperatures, got none")
        if self.property_:
            from hff_ase.dynamics.properties.plans import plans_of

            plans_of(self.property_)
        return self

    @property
    def points(self) -> list[Point]:
        """State points, in the order in which they are run."""
        return [Point(recipe, kelvin) for recipe in self.recipes for kelvin in self.temperature]

    @property
    def recipes(self) -> tuple[str, ...]:
        """Recipes, each at every concentration that is asked for."""
        if not self.concentration:
            return self.recipe
        return tuple(
            one for recipe in self.recipe for one in at_concentrations(recipe, self.concentration)
        )

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the requested properties; the default ones where none were requested."""
        from hff_ase.dynamics.properties.plans import DEFAULT

        return self.property_ or DEFAULT

    @property
    def needs_volume(self) -> bool:
        """Whether any property needs a run at constant volume."""
        from hff_ase.dynamics.properties.plans import PLANS

        return any(PLANS[name].held != "pressure" for name in self.wanted)

    @property
    def needs_charges(self) -> bool:
        """Whether frames must contain charges."""
        from hff_ase.dynamics.properties.plans import PLANS

        return any("charges" in PLANS[name].stored for name in self.wanted)

    @property
    def needs_gas(self) -> bool:
        """Whether single molecules in the gas phase are run as well."""
        from hff_ase.dynamics.properties.plans import PLANS

        return any("gas" in PLANS[name].stored for name in self.wanted)

    @property
    def hours(self) -> float | None:
        """The budget in hours; None without one."""
        return None if self.budget is None else hours_of(self.budget)

    def check_lengths(self) -> None:
        """Refuse a request that gives neither lengths nor a budget.

        Raises:
            ConfigError: neither a budget nor lengths.
        """
        given = self.npt is not None and (self.nvt is not None or not self.needs_volume)
        if self.budget is None and not given:
            raise ConfigError(
                "expected a budget such as 3h, or lengths such as --npt 100ps --nvt 500ps, got "
                "neither"
            )

    def with_lengths(self, npt: str, nvt: str, settle: str | None) -> Request:
        """The request with these lengths where none were given."""
        longest = {"max_time": self.max_settling or settle}
        own = {name: value for name, value in longest.items() if value is not None}
        return self.model_copy(
            update={
                "npt": self.npt or npt,
                "nvt": self.nvt or nvt,
                "equilibration": {**own, **self.equilibration},
            }
        )

    def write(self, folder: Path) -> None:
        """Write request.yaml.

        Raises:
            WriteError: it cannot be written.
        """
        from hff_ase.dynamics.reporters.growing_file import write_atomically

        write_atomically(folder / REQUEST, self.to_yaml().encode())


def read_request(folder: str | Path) -> Request:
    """The request of the run in a folder.

    Raises:
        ConfigError: no such run, or a request that makes no sense.
    """
    place = Path(folder) / REQUEST
    if not place.is_file():
        raise ConfigError(f"expected a run of hff properties in {folder}, got no {place}")
    return Request.load(place)


def hours_of(text: str) -> float:
    """A wall time such as 3h, 45min or 1.5d, in hours.

    Raises:
        ConfigError: no such time.
    """
    found = re.fullmatch(rf"\s*(\d+\.?\d*|\.\d+)\s*({'|'.join(HOURS)})\s*", text)
    if found is None or float(found[1]) <= 0:
        raise ConfigError(f"expected a time on the clock such as 3h or 45min, got {text!r}")
    return float(found[1]) * HOURS[found[2]]


def at_concentrations(recipe: str, concentrations: Sequence[float]) -> list[str]:
    """A recipe with its salt at several concentrations, in its own unit.

    Raises:
        ConfigError: not exactly one salt.
        RecipeError: a recipe that cannot be read.
    """
    from hff_ase.dynamics.build import parse_recipe

    liquid = parse_recipe(recipe)
    if len(liquid.salts) != 1:
        raise ConfigError(f"expected one salt for several concentrations, got {recipe!r}")
    salt = liquid.salts[0]
    return [str(replace(liquid, salts=(replace(salt, concentration=c),))) for c in concentrations]
