"""Settings of a sweep, and its runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import field_validator

from hff_ase.dynamics.config import MDConfig
from hff_ase.errors import ConfigError
from hff_ase.settings import Given, Section, setting
from hff_ase.settings.common import BOX_ATOMS, CLUSTER, OUTPUT, THREADS, WORKERS
from hff_ase.settings.declare import REQUIRED

POINTS = "State points"
# of every run, set by the sweep
OF_MEMBERS = ("structure", "temperature", "pressure", "seed", "output", "progress", "plot")
FILES = (".extxyz", ".xyz", ".traj", ".db", ".cif", ".pdb")


class SweepSettings(Section):
    """The liquids and state points of a sweep, and where they run."""

    system: tuple[str, ...] = setting(
        REQUIRED, "Recipes as for hff build, or files of boxes.", positional=True, metavar="SYSTEM"
    )
    temperature: tuple[float, ...] = setting(
        (300.0,), "Temperatures of every system.", unit="K", panel=POINTS, commas=True
    )
    pressure: tuple[float, ...] = setting(
        (), "Pressures of every system.", unit="bar", panel=POINTS, commas=True, shown="1 bar"
    )
    boxes: int = setting(
        1, "Runs per state point, each with its own seed (and box).", panel=POINTS, ge=1
    )
    atoms: int | None = setting(
        None,
        "Number of atoms of a box made from a recipe.",
        panel=POINTS,
        shown=str(BOX_ATOMS),
        ge=1,
    )
    seed: int = setting(0, "Seed of the first run of each state point.", panel=POINTS, ge=0)
    output: str = setting(
        "sweep", "Folder of all runs.", short="-o", panel=OUTPUT, metavar="FOLDER"
    )
    workers: int = WORKERS
    threads: int = THREADS
    cluster: str | None = CLUSTER

    @field_validator("system")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("expected a recipe or a file, got none")
        return value


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        system: a recipe, or a file.
        temperature: K; pressure: bar, or None.
        seed: of the box, velocities and thermostat.
        atoms: of a box from a recipe.
        settings: further ones of `hff_ase.dynamics.config.MDConfig`.
    """

    system: str
    temperature: float
    pressure: float | None
    seed: int
    atoms: int | None
    settings: Mapping[str, Any]

    @property
    def is_file(self) -> bool:
        """Whether the system is a file."""
        return Path(self.system).suffix in FILES

    @property
    def name(self) -> str:
        """Name of its folder: readable, and different for different runs."""
        facts = asdict(self)
        if self.is_file:
            facts["content"] = hashlib.sha256(Path(self.system).read_bytes()).hexdigest()
        key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
        text = Path(self.system).stem if self.is_file else self.system
        words = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")[:60]
        pressure = "" if self.pressure is None else f"-{self.pressure:g}bar"
        return f"{words}-{self.temperature:g}K{pressure}-{self.seed}-{key[:8]}"

    def config(
        self, folder: Path, structure: str, places: Mapping[str, str] | None = None
    ) -> MDConfig:
        """Settings of its run.

        Args:
            folder: of the run.
            structure: file of its box.
            places: where settings stand, for what is said of wrong ones.

        Raises:
            ConfigError: some that cannot be.
        """
        given = dict(self.settings)
        if self.pressure is not None:
            given["pressure"] = self.pressure
        own = {"structure": structure, "temperature": self.temperature, "seed": self.seed}
        where = {"output": str(folder), "progress": False, "plot": False}
        return MDConfig.load(Given({**given, **own, **where}, places))


def members_of(settings: SweepSettings, md: Mapping[str, Any]) -> list[Member]:
    """The runs of a sweep, all checked before the first begins.

    Args:
        settings: of the sweep.
        md: of every run.

    Raises:
        ConfigError: a setting that the sweep makes itself, a missing file, one that cannot be, or
            the same run twice.
        RecipeError: a recipe that cannot be read.
    """
    for name in OF_MEMBERS:
        if name in md:
            raise ConfigError(f"expected settings of every run, got {name}, which a sweep sets")
    pressures: tuple[float | None, ...] = settings.pressure or (None,)
    members = [
        Member(system, temperature, pressure, settings.seed + box, settings.atoms, dict(md))
        for system in settings.system
        for temperature in settings.temperature
        for pressure in pressures
        for box in range(settings.boxes)
    ]
    for member in members:
        if member.is_file and not Path(member.system).exists():
            raise ConfigError(f"expected a recipe or a file of a box, got {member.system}")
        member.config(Path("run"), "box.extxyz", getattr(md, "places", None))
    names = [member.name for member in members]
    if len(set(names)) < len(names):
        raise ConfigError("expected different systems and state points, got one of them twice")
    return members
