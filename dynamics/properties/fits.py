r"""How a quantity depends on temperature: Arrhenius, and Vogel, Fulcher and Tammann.

.. math:: y = A e^{\mp E_a/RT}, \qquad y = A e^{\mp B/(T - T_0)}

(minus for what grows with temperature, plus for viscosity), fitted to ln y by least squares with
the errors of the points. With T_0 as a further parameter four points or more are needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import units
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from hff_ase.dynamics.observables.observable import Observable, one_sigma, refuse
from hff_ase.dynamics.properties.curves import Curve, line

__all__ = ["arrhenius", "vogel"]

Array = NDArray[np.float64]
GAS = units.kB * units.mol / units.kJ  # kJ/mol/K
ACTIVATED = ("self_diffusion", "self_diffusion_infinite", "viscosity", "conductivity")
LEAST_ARRHENIUS, LEAST_VFT = 2, 4


@dataclass(frozen=True)
class Fit:
    """A fit over state points of one recipe.

    Attributes:
        title: what and of what.
        parameters: by name, with errors.
        curve: ln y against 1000/T with the fits.
    """

    title: str
    parameters: Mapping[str, Observable]
    curve: Curve

    def as_dict(self) -> dict[str, Any]:
        """As a dict for JSON."""
        own = {
            name: {
                "value": None if one.refused else one.value,
                "error": None if one.refused else one.error,
                "unit": one.unit,
                "method": one.method,
                "verdict": one.verdict(0.1),
            }
            for name, one in self.parameters.items()
        }
        return {"title": self.title, "parameters": own, "curve": self.curve.as_dict()}


def arrhenius(temperatures: Array, values: Sequence[Observable]) -> Observable:
    """Activation energy, kJ/mol, positive where the quantity grows with temperature.

    Args:
        temperatures: [n], K.
        values: at each, with errors.
    """
    method = f"Arrhenius, {temperatures.min():g}-{temperatures.max():g} K"
    if len(values) < LEAST_ARRHENIUS or np.ptp(temperatures) == 0:
        return refuse("kJ/mol", method, f"{len(values)} temperatures, two are needed")
    x, y, s = 1 / temperatures, *_logarithms(values)
    weights = s**-2.0
    centre = float(np.average(x, weights=weights))
    norm = float(weights @ (x - centre) ** 2)
    slope = float(weights @ ((x - centre) * y)) / norm
    error, dof = norm**-0.5, _freedom(values)
    if len(values) > 2:  # points that scatter by more than their errors widen that of the fit
        rest = y - np.average(y, weights=weights) - slope * (x - centre)
        error *= max(1.0, math.sqrt(float(weights @ rest**2) / (len(values) - 2)))
    return Observable(-GAS * slope, GAS * error, "kJ/mol", method, float(len(values)), dof)


def vogel(temperatures: Array, values: Sequence[Observable]) -> dict[str, Observable]:
    """B and T_0 of Vogel, Fulcher and Tammann, K; refused with fewer than four temperatures.

    Args:
        temperatures: [n], K.
        values: at each, with errors.
    """
    method = f"VFT, {temperatures.min():g}-{temperatures.max():g} K"
    n = len(values)
    if n < LEAST_VFT:
        reason = f"{n} temperatures, {LEAST_VFT} are needed"
        return {name: refuse("K", method, reason) for name in ("B", "T0")}
    y, s = _logarithms(values)
    sign = math.copysign(1.0, float(np.polyfit(1 / temperatures, y, 1)[0]))
    start = (float(y.mean()) - sign * 3.0, 600.0, 0.5 * float(temperatures.min()))
    bounds = ([-np.inf, 0.0, 0.0], [np.inf, np.inf, 0.98 * float(temperatures.min())])

    def model(t: Array, a: float, b: float, t0: float) -> Array:
        return a + sign * b / (t - t0)

    try:
        found, covariance = curve_fit(
            model, temperatures, y, start, s, absolute_sigma=True, bounds=bounds
        )
    except RuntimeError as problem:
        return {name: refuse("K", method, str(problem)) for name in ("B", "T0")}
    errors, dof = np.sqrt(np.diag(covariance)), float(max(n - 3, 1))
    results = {}
    for name, place in (("B", 1), ("T0", 2)):
        error = float(errors[place]) * one_sigma(dof)
        if not math.isfinite(error) or error > abs(found[place]):
            reason = "the points do not tell it from Arrhenius' law"
            results[name] = refuse("K", method, reason)
        else:
            results[name] = Observable(float(found[place]), error, "K", method, float(n), dof)
    return results


def fits_of(states: Sequence[Mapping[str, Any]]) -> list[Fit]:
    """Fits of everything that is activated, over the temperatures of each recipe.

    Args:
        states: of properties.json.
    """
    found = []
    for recipe in dict.fromkeys(state["recipe"] for state in states):
        own = [state for state in states if state["recipe"] == recipe]
        names = dict.fromkeys(name for state in own for name in state["quantities"])
        for name in names:
            if name.split("/")[0] in ACTIVATED and not name.endswith("green_kubo"):
                fit = _fit(str(recipe), name, own)
                found += [fit] if fit else []
    return found


def _fit(recipe: str, name: str, states: Sequence[Mapping[str, Any]]) -> Fit | None:
    """One quantity of one recipe; None with fewer than two temperatures."""
    from hff_ase.dynamics.properties.page.names import title, unit

    known = [
        (state["temperature[K]"], state["quantities"][name])
        for state in states
        if state["quantities"].get(name, {}).get("value")
    ]
    known = [(t, entry) for t, entry in known if entry["value"] > 0]
    if len({t for t, _ in known}) < LEAST_ARRHENIUS:
        return None
    known.sort(key=lambda pair: pair[0])
    t = np.array([kelvin for kelvin, _ in known])
    values = [_observable(one) for _, one in known]
    energy, other = arrhenius(t, values), vogel(t, values)
    y, s = _logarithms(values)
    slope = -energy.value / GAS
    weights = s**-2.0
    grid = np.linspace(t.min(), t.max(), 60)
    at = np.average(y, weights=weights) + slope * (1 / grid - np.average(1 / t, weights=weights))
    own = [one.value for one in values]
    spread = [one.error for one in values]
    lines = {
        "computed": line(1000 / t, own, spread),
        f"Arrhenius, {energy.value:.1f} kJ/mol": line(1000 / grid, np.exp(at)),
    }
    measured = [(kelvin, one["experiment"]["value"]) for kelvin, one in known if one["experiment"]]
    if measured:
        a, b = np.array(measured).T
        lines["measured"] = line(1000 / a, b)
    label = f"{title(name)} / {unit(values[0].unit)}"
    curve = Curve(f"{title(name)} of {recipe}", "1000 K / T", label, lines, "y")
    return Fit(curve.title, {"activation energy": energy, **other}, curve)


def _observable(entry: Mapping[str, Any]) -> Observable:
    """A number of properties.json."""
    dof = entry["dof"] or math.inf
    return Observable(entry["value"], entry["error"], entry["unit"], "", entry["samples"], dof)


def _logarithms(values: Sequence[Observable]) -> tuple[Array, Array]:
    """Logarithms and their errors."""
    y = np.log([one.value for one in values])
    s = np.array([max(one.relative_error, 1e-12) for one in values])
    return np.asarray(y, dtype=float), s


def _freedom(values: Sequence[Observable]) -> float:
    """Degrees of freedom of the errors: the fewest of all."""
    return min(one.dof for one in values)
