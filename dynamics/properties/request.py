"""What is asked of ``hff properties``, checked, to and from request.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from hff_ase.dynamics.config import parse_time, to_yaml
from hff_ase.dynamics.properties.plans import DEFAULT, PLANS, plans_of
from hff_ase.dynamics.properties.state import PRESSURE, VOLUME, name_of
from hff_ase.dynamics.reporters.growing_file import write_atomically
from hff_ase.errors import ConfigError

REQUEST = "request.yaml"
MOST_REPLICAS = 1000


@dataclass(frozen=True)
class Point:
    """One state point of a request: a liquid at a temperature."""

    recipe: str
    temperature: float

    @property
    def name(self) -> str:
        """For messages."""
        return name_of(self.recipe, self.temperature)


@dataclass(frozen=True)
class Request:
    """Liquids, temperatures and properties, and how much may be spent on them.

    Attributes:
        recipes: as for ``hff build``.
        temperatures: K; every recipe at each.
        properties: names of `PLANS`; empty for the usual ones.
        model: name of a model or an .hff file.
        replicas: boxes of each state point, each packed with a seed of its own.
        atoms: of a box.
        pressure: bar.
        seed: of the first packing and of all velocities and noise.
        budget: hours for everything; None where the lengths are given.
        npt, nvt: lengths of production of each box, such as ``200ps``; None: by the budget.
        timestep: fs, at constant volume, where masses are real.
        settle: at constant volume under Langevin dynamics before anything is read.
        equilibration: further settings of `EquilibrationConfig`.
        md: further settings of `MDConfig` for production, such as ``device`` or ``dtype``.
    """

    recipes: tuple[str, ...]
    temperatures: tuple[float, ...]
    model: str
    properties: tuple[str, ...] = ()
    replicas: int = 4
    atoms: int = 300
    pressure: float = 1.0
    seed: int = 0
    budget: float | None = None
    npt: str | None = None
    nvt: str | None = None
    timestep: float = 1.0
    settle: str = "5ps"
    equilibration: Mapping[str, Any] = field(default_factory=dict)
    md: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        plans_of(self.properties)
        for name in ("recipes", "temperatures"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"expected {name}, each once, got {list(values)}")
        if min(self.temperatures) <= 0:
            raise ConfigError(f"expected temperatures above 0 K, got {min(self.temperatures):g}")
        if not 1 <= self.replicas <= MOST_REPLICAS:
            raise ConfigError(f"expected 1 to {MOST_REPLICAS} replicas, got {self.replicas}")
        if self.budget is not None and self.budget <= 0:
            raise ConfigError(f"expected a budget above zero, got {self.budget:g} h")
        for length in (self.npt, self.nvt, self.settle):
            if length is not None:
                parse_time(length)
        if self.budget is None and (self.npt is None or (self.needs_volume and self.nvt is None)):
            raise ConfigError(
                "expected a budget such as 3h, or lengths such as --npt 100ps --nvt 500ps, got "
                "neither"
            )

    @property
    def points(self) -> list[Point]:
        """State points, in the order in which they are run."""
        return [Point(recipe, kelvin) for recipe in self.recipes for kelvin in self.temperatures]

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the properties, the usual ones filled in."""
        return self.properties or DEFAULT

    @property
    def needs_volume(self) -> bool:
        """Whether any property is read at constant volume."""
        return any(PLANS[name].held != PRESSURE for name in self.wanted)

    @property
    def needs_charges(self) -> bool:
        """Whether frames have to hold charges."""
        return any("charges" in PLANS[name].stored for name in self.wanted)

    @property
    def held(self) -> tuple[str, ...]:
        """What production holds constant."""
        return (PRESSURE, VOLUME) if self.needs_volume else (PRESSURE,)

    def with_lengths(self, npt: str, nvt: str | None) -> Request:
        """The same with these lengths where none were given."""
        return replace(self, npt=self.npt or npt, nvt=self.nvt or nvt)

    def write(self, folder: Path) -> None:
        """Into request.yaml.

        Raises:
            WriteError: it cannot be written.
        """
        content = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        write_atomically(folder / REQUEST, to_yaml(content).encode())


def read_request(folder: str | Path) -> Request:
    """What was asked of the run in a folder.

    Raises:
        ConfigError: no such run, or a request that makes no sense.
    """
    place = Path(folder) / REQUEST
    try:
        content = yaml.safe_load(place.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(f"expected a run of hff properties in {folder}, got no {place}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"expected yaml in {place}, got something else: {error}") from None
    known = {one.name for one in fields(Request)}
    unknown = set(content) - known
    if unknown:
        raise ConfigError(f"unknown setting {min(unknown)!r} in {place}")
    lists = ("recipes", "temperatures", "properties")
    settings: dict[str, Any] = {k: tuple(v) if k in lists else v for k, v in content.items()}
    return Request(**settings)


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
