"""Settings of many runs in one batch: those of a single run, and lists of what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.replicas.lists import Check, files, numbers, repeated, unique
from hff_ase.errors import ConfigError
from hff_ase.settings import Given, Section, setting

MOST = 100_000  # replicas; more is a slip of the finger
SEVERAL = ("structure", "temperature", "pressure")  # of which there may be a list


@dataclass(frozen=True)
class Condition:
    """The conditions shared by a group of replicas.

    Attributes:
        structure: which of the structures, counted from 0.
        temperature: K.
        pressure: bar; None for its default, or where no stage needs one.
    """

    structure: int
    temperature: float
    pressure: float | None


class ReplicaSettings(Section):
    """Settings of a run of replicas in addition to those of a single run."""

    replicas: int | None = setting(
        None,
        "Total number, distributed over structures x temperatures x pressures.",
        panel="Many runs in one batch",
        shown="one each",
        ge=1,
        le=MOST,
    )
    combine: Literal["all", "paired"] = setting(
        "all",
        "Every structure at every temperature and pressure, or the first at the first, the second "
        "at the second ... (lists of one go with all).",
        panel="Many runs in one batch",
    )


@dataclass(frozen=True)
class ReplicaConfig:
    """Settings of a run of replicas; make one with `load`.

    Replicas are assigned in turn to the combinations of structures, temperatures and pressures
    (the last varies fastest): replica k gets combination k modulo their number. More replicas of
    the same combinations therefore leave those that were there as they are.

    Attributes:
        shared: every other setting, with the structure, temperature and pressure of replica 0.
        structures: files; None where a structure is given in Python.
        temperatures: K.
        pressures: bar, or one None.
        asked: number of replicas; None for one per combination.
        combine: ``all``, or ``paired``: the lists are of one length (or one) and go side by side.
    """

    shared: MDConfig
    structures: tuple[str | None, ...]
    temperatures: tuple[float, ...]
    pressures: tuple[float | None, ...]
    asked: int | None = None
    combine: Literal["all", "paired"] = "all"

    @classmethod
    def load(
        cls,
        source: Mapping[str, Any] | str | Path,
        overrides: Mapping[str, Any] | None = None,
    ) -> ReplicaConfig:
        """Settings of `MDConfig`, of which ``structure``, ``temperature`` and ``pressure`` may be
        lists (numbers also as in "280,300"), and ``replicas``, their number.

        Args:
            source: a mapping, or a yaml file.
            overrides: settings that replace those of the source.

        Raises:
            ConfigError: as `MDConfig`; a list that is empty or holds a value twice; a number of
                replicas that is not a multiple of the combinations; a setting that replicas do not
                have (a committee, the ase engine).
        """
        given = Given.of(source)
        if overrides:
            given = Given.of(overrides).over(given, MDConfig, ReplicaSettings)
        own, rest = given.take(ReplicaSettings)
        how = ReplicaSettings.load(own)
        check: Check = repeated if how.combine == "paired" else unique
        structures = files(rest.get("structure"), rest, check)
        default = MDConfig.model_fields["temperature"].default
        temperatures = numbers("temperature", rest.get("temperature", default), rest, check)
        pressures: tuple[float | None, ...] = (None,)
        if rest.get("pressure") is not None:
            pressures = numbers("pressure", rest["pressure"], rest, check)
        refuse_foreign(rest)

        def one(file: str | None, kelvin: float, bar: float | None) -> MDConfig:
            differing = {"structure": file, "temperature": kelvin, "pressure": bar}
            return MDConfig.load(Given({**differing, "engine": "torch"}).over(rest))

        made = [one(file, temperatures[0], pressures[0]) for file in structures]
        for kelvin, bar in product(temperatures, pressures):
            one(structures[0], kelvin, bar)  # each is checked
        structures = tuple(config.structure for config in made)  # as absolute paths
        config = cls(made[0], structures, temperatures, pressures, how.replicas, how.combine)
        config.check_number()
        return config

    def for_structures(self, n_structures: int) -> ReplicaConfig:
        """The same for a number of structures given in Python.

        Raises:
            ConfigError: the number of replicas does not fit.
        """
        config = replace(self, structures=(None,) * n_structures)
        config.check_number()
        return config

    def check_number(self) -> None:
        """Refuse a number of replicas that cannot be divided evenly, and lists of unequal length.

        Raises:
            ConfigError: it is not a positive multiple of the number of combinations, or lists that
                are paired are of different lengths.
        """
        n, numbers = self.n_combinations, (len(each) for each in self._lists)
        if self.combine == "paired" and not all(number in (1, n) for number in numbers):
            raise ConfigError(
                f"expected as many structures, temperatures and pressures, or one, to pair, got "
                f"{self.described}"
            )
        if self.asked is not None and self.asked % n:
            raise ConfigError(
                f"expected a multiple of {n} replicas (structures x temperatures x pressures: "
                f"{self.described}), got {self.asked}"
            )

    @property
    def n_combinations(self) -> int:
        """Structures times temperatures times pressures; pairs, where they are paired."""
        numbers = [len(each) for each in self._lists]
        return max(numbers) if self.combine == "paired" else prod(numbers)

    @property
    def described(self) -> str:
        """The numbers of structures, temperatures and pressures, in words."""
        sign = "x" if self.combine == "all" else "|"
        return f" {sign} ".join(str(len(each)) for each in self._lists)

    @property
    def _lists(self) -> tuple[Sequence[int], tuple[float, ...], tuple[float | None, ...]]:
        return range(len(self.structures)), self.temperatures, self.pressures

    @property
    def n_replicas(self) -> int:
        """Number of replicas."""
        return self.n_combinations if self.asked is None else self.asked

    @property
    def conditions(self) -> list[Condition]:
        """The combinations in the order in which replicas are assigned."""
        lists = self._lists
        if self.combine == "all":
            return [Condition(*entry) for entry in product(*lists)]
        structures, temperatures, pressures = lists
        return [
            Condition(
                structures[k % len(structures)],
                temperatures[k % len(temperatures)],
                pressures[k % len(pressures)],
            )
            for k in range(self.n_combinations)
        ]

    def combination(self, replica: int) -> int:
        """Which combination a replica belongs to."""
        return replica % self.n_combinations

    def name_of(self, number: int) -> str:
        """The label of a combination in a plot: what differs among them."""
        condition = self.conditions[number]
        parts = []
        if len(self.structures) > 1:
            file = self.structures[condition.structure]
            parts.append(
                f"structure {condition.structure + 1}" if file is None else Path(file).stem
            )
        parts.append(f"{condition.temperature:g} K")
        if len(set(self.pressures)) > 1:
            parts.append(f"{condition.pressure:g} bar")
        return ", ".join(parts)

    def replica_configs(self) -> list[MDConfig]:
        """The settings of every replica, as those of a single run."""
        configs = [
            self.shared.model_copy(
                update={
                    "structure": self.structures[condition.structure],
                    "temperature": condition.temperature,
                    "pressure": condition.pressure,
                }
            )
            for condition in self.conditions
        ]
        return [configs[self.combination(k)] for k in range(self.n_replicas)]

    def resolved(self) -> dict[str, Any]:
        """Every setting with its value; `load` takes it back."""
        options = self.shared.resolved()
        if self.pressures != (None,):
            options["pressure"] = list(self.pressures)
        return {
            **options,
            "structure": list(self.structures),
            "temperature": list(self.temperatures),
            "replicas": self.n_replicas,
            **({} if self.combine == "all" else {"combine": self.combine}),
        }


def asks_for_replicas(settings: Mapping[str, Any]) -> bool:
    """Whether settings describe several runs instead of one."""
    if any(settings.get(name) is not None for name in ReplicaSettings.names()):
        return True
    values = [settings.get(name) for name in SEVERAL]
    commas = any(isinstance(value, str) and "," in value for value in values[1:])
    return commas or any(isinstance(value, (list, tuple)) for value in values)


def refuse_foreign(settings: Mapping[str, Any]) -> None:
    """Refuse settings that only a single run has.

    Raises:
        ConfigError: names the setting.
    """
    if settings.get("engine") == "ase":
        raise ConfigError("expected engine torch (or auto) for replicas, got ase")
    for name in ("committee", "max_spread", "collect"):
        if settings.get(name):
            raise ConfigError(f"expected no {name} with replicas, got {settings[name]!r}")
