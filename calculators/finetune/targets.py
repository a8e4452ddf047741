"""Targets: measured values that a model is tuned to, with their sources."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hff_ase.errors import ConfigError, in_one_line
from hff_ase.settings.kelvin import check_kelvin

__all__ = ["Target"]


@dataclass(frozen=True)
class Quantity:
    """A quantity that a model can be tuned to.

    Attributes:
        unit: of values and uncertainties.
        also: other units, and the factor to ``unit``.
        lowest, highest: what is physical.
        needs: further entries of a target.
        dynamic: a property of motion: reweighting does not give it, runs at several values of the
            parameters do (`responses`).
    """

    unit: str
    also: Mapping[str, float]
    lowest: float
    highest: float
    needs: tuple[str, ...] = ()
    dynamic: bool = False


QUANTITIES: dict[str, Quantity] = {
    "density": Quantity("g/cm^3", {"g/cm3": 1.0, "kg/m^3": 1e-3, "kg/m3": 1e-3}, 0.1, 25.0),
    "pressure": Quantity("bar", {"MPa": 10.0, "GPa": 1e4}, -2e4, 1e6, ("at_density",)),
    "heat_of_vaporisation": Quantity("kJ/mol", {"kcal/mol": 4.184}, 1.0, 1000.0),
    "compressibility": Quantity("1/GPa", {"1/MPa": 1e3, "1/bar": 1e4}, 1e-3, 50.0),
    "rdf": Quantity("1", {"": 1.0}, 0.0, 1e4, ("pair", "distance")),
    "coordination": Quantity("1", {"": 1.0}, 0.0, 100.0, ("pair", "distance")),
    "viscosity": Quantity("mPa s", {"cP": 1.0, "Pa s": 1e3}, 1e-3, 1e7, dynamic=True),
    "conductivity": Quantity("mS/cm", {"S/m": 10.0}, 1e-6, 1e4, dynamic=True),
    "self_diffusion": Quantity(
        "1e-9 m^2/s", {"m^2/s": 1e9, "cm^2/s": 1e5}, 1e-8, 1e4, ("species",), dynamic=True
    ),
}
REFERENCE = "reference"  # instead of a value: the package's own data


@dataclass(frozen=True)
class Target:
    """A target value of an ensemble average.

    Attributes:
        liquid: as for ``hff build``, such as ``DMC`` or ``1 M LiPF6 in EC:DMC 1:1 w/w``.
        quantity: one of `QUANTITIES`.
        temperature: K.
        value, uncertainty: in the quantity's unit; nan stands for the package's reference data.
        pressure: bar.
        source: where the value is from.
        pair, distance: for structure: elements such as ``Li-O``, Angstrom.
        at_density: g/cm^3, for a pressure at that density.
        species: for self-diffusion: a molecule or ion, such as ``DMC`` or ``Li``.
        kept_out: to be predicted, not fitted.
    """

    liquid: str
    quantity: str
    temperature: float
    value: float
    uncertainty: float
    pressure: float = 1.0
    source: str = ""
    pair: str = ""
    distance: float | None = None
    at_density: float | None = None
    species: str = ""
    kept_out: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ConfigError: names the entry.
        """
        if self.quantity not in QUANTITIES:
            raise ConfigError(
                f"expected a quantity among {', '.join(QUANTITIES)}, got {self.quantity!r}"
            )
        what = QUANTITIES[self.quantity]
        if not self.liquid:
            raise ConfigError(f"expected the liquid of a target for {self.quantity}, got none")
        try:
            check_kelvin(self.temperature)
        except ConfigError as error:
            raise ConfigError(f"{self}: {error}") from None
        if not (math.isnan(self.value) or what.lowest <= self.value <= what.highest):
            raise ConfigError(
                f"expected {self.quantity} of {self.liquid} between {what.lowest:g} and "
                f"{what.highest:g} {what.unit}, got {self.value:g}"
            )
        if not (math.isnan(self.uncertainty) or 0 < self.uncertainty < math.inf):
            raise ConfigError(
                f"expected a positive uncertainty of {self}, got {self.uncertainty:g} {what.unit}"
            )
        for name in what.needs:
            given = getattr(self, name)
            if not given or (isinstance(given, float) and not given > 0):
                raise ConfigError(f"expected {name} for {self.quantity} of {self.liquid}, got none")

    @property
    def unit(self) -> str:
        """Of value and uncertainty."""
        return QUANTITIES[self.quantity].unit

    def __str__(self) -> str:
        """Such as ``density of DMC, 298.15 K``."""
        where = f" {self.pair} {self.distance or 0.0:g} A" if self.pair else ""
        where += f" of {self.species} in {self.liquid}" if self.species else f" of {self.liquid}"
        return f"{self.quantity}{where}, {self.temperature:g} K"


def read_targets(path: str | Path) -> list[Target]:
    """Targets of a table: a .csv file with a header, or a .yaml list of entries.

    Columns are those of `Target` and ``unit``; ``value`` may be ``reference``.

    Raises:
        ConfigError: no such file, an unknown column or unit, or a value that cannot be; the message
            names the row.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"expected a table of targets (.csv, .yaml), got no file {path}")
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".yaml", ".yml"):
        try:
            rows = yaml.safe_load(text)
        except yaml.YAMLError as error:
            problem = in_one_line(error)
            raise ConfigError(f"expected yaml in {path}, got: {problem}") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ConfigError(f"expected a list of targets in {path}, got {type(rows).__name__}")
    elif path.suffix == ".csv":
        rows = list(csv.DictReader(line for line in text.splitlines() if line[:1] != "#"))
    else:
        raise ConfigError(f"expected a table of targets (.csv, .yaml), got {path}")
    if not rows:
        raise ConfigError(f"expected targets in {path}, got none")
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(target_of(row))
        except ConfigError as error:
            raise ConfigError(f"{path}, target {number}: {error}") from None
    return found


def target_of(row: Mapping[str, Any]) -> Target:
    """A target of entries by name, as a row of a table has them.

    Raises:
        ConfigError: an unknown entry or unit, or a value that cannot be.
    """
    given = {k: v for k, v in row.items() if v not in (None, "")}
    known = {field.name for field in fields(Target)} | {"unit"}
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise ConfigError(f"expected columns among {', '.join(sorted(known))}, got {unknown[0]!r}")
    for name in ("liquid", "quantity", "temperature", "value"):
        if name not in given:
            raise ConfigError(f"expected {name} of a target, got none")
    what = QUANTITIES.get(str(given["quantity"]))
    unit = str(given.pop("unit", what.unit if what else ""))
    factor = 1.0
    if what is not None and unit != what.unit:
        if unit not in what.also:
            raise ConfigError(
                f"expected the unit of {given['quantity']} among {what.unit}, "
                f"{', '.join(filter(None, what.also))}, got {unit!r}"
            )
        factor = what.also[unit]
    if given["value"] == REFERENCE:
        given |= {"value": math.nan, "uncertainty": math.nan}
    elif "uncertainty" not in given:
        raise ConfigError("expected uncertainty of a target, got none")
    for name in ("temperature", "value", "uncertainty", "pressure", "distance", "at_density"):
        if name in given:
            scale = factor if name in ("value", "uncertainty") else 1.0
            given[name] = _number(name, given[name]) * scale
    if "kept_out" in given:
        given["kept_out"] = str(given["kept_out"]).lower() in ("1", "true", "yes")
    return Target(**given)


def check_elements(targets: Iterable[Target], present: Mapping[str, Sequence[str]],
                   known: Sequence[str] | None, model: str) -> None:  # fmt: skip
    """Refuse targets for liquids with elements that a model does not know.

    Args:
        targets: of any liquids.
        present: chemical symbols in each liquid.
        known: those of the model; None where any will do.
        model: its name.

    Raises:
        ConfigError: names the liquid and the element.
    """
    for target in targets:
        for symbol in present.get(target.liquid, ()):
            if known is not None and symbol not in known:
                raise ConfigError(
                    f"expected targets within the elements of {model} ({' '.join(known)}), got "
                    f"{target}, which holds {symbol}"
                )


def split(
    targets: Sequence[Target], part: float, seed: int = 0
) -> tuple[list[Target], list[Target]]:
    """Targets to fit, and those to predict: marked as such, and a random part of the liquids.

    All targets of a liquid stay together.

    Raises:
        ConfigError: a part that is not in [0, 1), or none left to fit.
    """
    if not 0 <= part < 1:
        raise ConfigError(f"expected a part of at least 0 and below 1 to keep out, got {part}")
    liquids = sorted({t.liquid for t in targets if not t.kept_out})
    n = math.ceil(part * len(liquids)) if part else 0
    drawn = set(np.random.default_rng(seed).permutation(liquids)[:n].tolist())
    out = [t for t in targets if t.kept_out or t.liquid in drawn]
    fitted = [t for t in targets if t not in out]
    if not fitted:
        raise ConfigError(f"expected targets to fit, got {len(targets)} that are all kept out")
    return fitted, out


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"expected a number for {name}, got {value!r}") from None
