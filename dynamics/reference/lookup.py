"""Measured values by composition and temperature: interpolated within the data, or none."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from hff_ase.dynamics.build import parse_recipe
from hff_ase.dynamics.build.recipe import Recipe
from hff_ase.errors import ConfigError

VISCOSITY_ERROR, CONDUCTIVITY_ERROR = 0.03, 0.05  # relative; see SOURCES.md
SAME_TEMPERATURE = 0.6  # K: nearer than this is the same temperature
SAME_SHARE = 0.005  # of a solvent's share


@dataclass(frozen=True)
class Measurement:
    """A measured value to compare with.

    Attributes:
        value, uncertainty: in ``unit``; the latter one standard deviation, as assigned.
        temperature: K.
        source: where from, with its licence.
        interpolated: whether between measured points, rather than at one.
    """

    value: float
    uncertainty: float
    unit: str
    temperature: float
    source: str
    interpolated: bool


def measured(quantity: str, recipe: str | Recipe, temperature: float) -> Measurement | None:
    """The measured value of a quantity of a liquid, or None.

    Args:
        quantity: density, viscosity, permittivity, heat_of_vaporisation, conductivity,
            transference_number (of the cation, solvent frame) or thermodynamic_factor.
        recipe: as for ``hff build``: ``DMC``, ``1.0 M LiPF6 in EC:EMC 3:7 w/w``.
        temperature: K.

    Returns:
        None where nothing is known of this composition at this temperature: no extrapolation.

    Raises:
        ConfigError: another quantity.
        RecipeError: a recipe that cannot be read.
    """
    if quantity not in QUANTITIES:
        raise ConfigError(f"expected one of {', '.join(QUANTITIES)}, got {quantity!r}")
    liquid = parse_recipe(recipe) if isinstance(recipe, str) else recipe
    if liquid.additives:
        return None  # what was measured was measured without them
    return QUANTITIES[quantity](quantity, liquid, temperature)


def interpolate(
    x: np.ndarray, y: np.ndarray, at: float, tolerance: float = 1e-9
) -> tuple[float, bool] | None:
    """y at a point, linearly between measured x; None outside of them.

    Values at the same x are averaged first.

    Returns:
        The value, and whether it lies between points.
    """
    if len(x) == 0:
        return None
    points = np.unique(x)
    values = np.array([y[x == point].mean() for point in points])
    nearest = int(np.abs(points - at).argmin())
    if abs(points[nearest] - at) <= tolerance:
        return float(values[nearest]), False
    if not points[0] <= at <= points[-1]:
        return None
    return float(np.interp(at, points, values)), True


def _of_liquid(quantity: str, recipe: Recipe, temperature: float) -> Measurement | None:
    """Density, permittivity or heat of vaporisation of a neat liquid."""
    if recipe.salts or len(recipe.solvents) != 1:
        return None
    rows = [row for row in _table("liquids.csv") if row["quantity"] == quantity]
    rows = [row for row in rows if _same(row["name"], recipe.solvents[0])]
    t, y, error = (
        np.array([float(r[k]) for r in rows]) for k in ("temperature_K", "value", "uncertainty")
    )
    found = interpolate(t, y, temperature, SAME_TEMPERATURE)
    if found is None:
        return None
    source = rows[int(np.abs(t - temperature).argmin())]["source"]
    return Measurement(found[0], float(error.max()), rows[0]["unit"], temperature, source, found[1])


def _viscosity(_: str, recipe: Recipe, temperature: float) -> Measurement | None:
    """Viscosity of a neat liquid or of a binary mixture given by moles."""
    if recipe.salts or len(recipe.solvents) > 2:
        return None
    if len(recipe.solvents) == 2 and recipe.basis != "mol/mol":
        return None
    shares = np.array(recipe.ratio) / sum(recipe.ratio)
    rows = []
    for row in _table("viscosity.csv"):
        named = [row["component_1"], row["component_2"]]
        fraction = float(row["mole_fraction_1"])
        if len(recipe.solvents) == 1:
            if _same(named[0], recipe.solvents[0]) and not named[1]:
                rows.append((0.0, float(row["temperature_K"]), float(row["viscosity_mPa_s"])))
        elif named[1]:
            for x, order in ((fraction, named), (1 - fraction, named[::-1])):
                if all(_same(a, b) for a, b in zip(order, recipe.solvents, strict=True)):
                    rows.append((x, float(row["temperature_K"]), float(row["viscosity_mPa_s"])))
    if not rows:
        return None
    x, t, eta = np.array(rows).T
    if len(recipe.solvents) == 1:
        found = interpolate(1 / t, np.log(eta), 1 / temperature, SAME_TEMPERATURE / temperature**2)
    else:
        near = np.abs(t - temperature) <= SAME_TEMPERATURE
        found = interpolate(x[near], np.log(eta[near]), float(shares[0]), SAME_SHARE)
    if found is None:
        return None
    value = float(np.exp(found[0]))
    source = "Bilodeau et al. (2023) via CheMixHub (CC BY 4.0)"
    return Measurement(value, VISCOSITY_ERROR * value, "mPa s", temperature, source, found[1])


def _conductivity(_: str, recipe: Recipe, temperature: float) -> Measurement | None:
    """Conductivity of one salt in a mixture: CALiSol-23, between its concentrations."""
    if len(recipe.salts) != 1:
        return None
    salt = recipe.salts[0]
    unit = {"M": "mol/l", "mol/kg": "mol/kg"}[recipe.unit]
    basis = {"w/w": "w", "v/v": "v", "mol/mol": "mol", "": None}[recipe.basis]
    wanted = dict(zip(recipe.solvents, np.array(recipe.ratio) / sum(recipe.ratio), strict=True))
    found = []
    for row in _table("conductivity.csv.gz"):
        if row["salt"] != salt.name or row["concentration_unit"] != unit:
            continue
        if basis is not None and row["ratio_type_w_m_v"] != basis:
            continue
        if abs(float(row["temperature_K"]) - temperature) > SAME_TEMPERATURE:
            continue
        if _same_mixture(_mixture(row["solvents"]), wanted):
            found.append((float(row["concentration"]), float(row["conductivity_mS_cm"])))
    if not found:
        return None
    c, sigma = np.array(found).T
    value = interpolate(c, sigma, salt.concentration, 0.005 * salt.concentration)
    if value is None:
        return None
    source = "CALiSol-23, 10.1038/s41597-024-03575-8 (CC BY 4.0)"
    error = CONDUCTIVITY_ERROR * value[0]
    return Measurement(value[0], error, "mS/cm", temperature, source, value[1])


def _landesfeind(quantity: str, recipe: Recipe, temperature: float) -> Measurement | None:
    """Transference number or thermodynamic factor of LiPF6 from the fits of Landesfeind (2019)."""
    fits = landesfeind()
    if len(recipe.salts) != 1 or recipe.salts[0].name != "LiPF6" or recipe.unit != "M":
        return None
    c, (low, high) = recipe.salts[0].concentration, fits["range"]["concentration_mol_L"]
    coldest, hottest = fits["range"]["temperature_K"]
    if not (low <= c <= high and coldest <= temperature <= hottest) or recipe.basis != "w/w":
        return None
    key = {"transference_number": "t_plus"}.get(quantity, quantity)
    wanted = dict(zip(recipe.solvents, np.array(recipe.ratio) / sum(recipe.ratio), strict=True))
    for names, ratio in fits["solvents"].items():
        parts = np.array([float(x) for x in ratio.split(" ")[0].split(":")])
        own = dict(zip(names.split(":"), parts / parts.sum(), strict=True))
        if _same_mixture(own, wanted) and names in fits[key]:
            value = polynomial(fits[key][names], c, temperature)
            error = 0.1 if key == "t_plus" else 0.2 * value
            return Measurement(value, error, "", temperature, fits["source"], True)
    return None


def polynomial(p: list[float], c: float, t: float) -> float:
    """The fits' form: p0 + p1 c + p2 T + p3 c^2 + p4 c T + p5 T^2 + p6 c^3 + p7 c^2 T + p8 c T^2.

    Args:
        p: nine coefficients.
        c: mol/L.
        t: K.
    """
    terms = (1.0, c, t, c**2, c * t, t**2, c**3, c**2 * t, c * t**2)
    return float(np.dot(p, terms))


def landesfeind_conductivity(solvent: str, c: float, t: float) -> float:
    """Conductivity of LiPF6, mS/cm, from the fit of Landesfeind (2019), eq. 11.

    Args:
        solvent: ``EC:DMC`` or ``EC:EMC``, as the file has them.
        c: mol/L.
        t: K.

    Raises:
        ConfigError: another solvent, or outside of what was measured.
    """
    fits = landesfeind()
    ranges = fits["range"]
    (low, high), (cold, hot) = ranges["concentration_mol_L"], ranges["temperature_K"]
    if solvent not in fits["conductivity_mS_cm"] or not (low <= c <= high and cold <= t <= hot):
        raise ConfigError(
            f"expected one of {', '.join(fits['conductivity_mS_cm'])} within {low}-{high} mol/L "
            f"and {cold}-{hot} K, got {solvent} at {c} mol/L and {t} K"
        )
    p0, p1, p2, p3, p4, p5 = fits["conductivity_mS_cm"][solvent]
    e = np.exp(1000.0 / t)
    top = p0 * (1 + (t - p1)) * c * (1 + p2 * np.sqrt(c) + p3 * (1 + p4 * e) * c)
    return float(top / (1 + c**4 * p5 * e))


@cache
def landesfeind() -> dict[str, Any]:
    """The file of coefficients."""
    text = files(__package__).joinpath("landesfeind2019.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@cache
def _table(name: str) -> tuple[dict[str, str], ...]:
    """Rows of a table that comes with the package."""
    raw = files(__package__).joinpath(name).read_bytes()
    text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode()
    return tuple(csv.DictReader(io.StringIO(text)))


@cache
def _mixture(text: str) -> dict[str, float]:
    """Shares of solvents written as ``EC:0.3 EMC:0.7``."""
    shares: dict[str, float] = {}
    for part in text.split():
        name, share = part.rsplit(":", 1)
        shares[name] = shares.get(name, 0.0) + float(share)
    return shares


def _same_mixture(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two mixtures have the same solvents in the same shares."""
    folded = {name.casefold(): share for name, share in one.items() if share > 0}
    wanted = {name.casefold(): share for name, share in other.items()}
    return folded.keys() == wanted.keys() and all(
        abs(folded[name] - wanted[name]) < SAME_SHARE for name in wanted
    )


ALIASES = {"1,2-dimethoxyethane": "DME", "ethyl acetate": "EA", "EtOAc": "EA"}


def _same(one: str, other: str) -> bool:
    """Whether two names mean the same liquid."""
    a, b = ALIASES.get(one, one), ALIASES.get(other, other)
    return a.casefold() == b.casefold()


QUANTITIES: dict[str, Callable[[str, Recipe, float], Measurement | None]] = {
    "density": _of_liquid,
    "viscosity": _viscosity,
    "permittivity": _of_liquid,
    "heat_of_vaporisation": _of_liquid,
    "conductivity": _conductivity,
    "transference_number": _landesfeind,
    "thermodynamic_factor": _landesfeind,
}
