"""One measured quantity: value, error, unit, method and verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scipy.stats import t as student

__all__ = ["Observable", "combine", "refuse"]

ONE_SIGMA = 0.6827  # probability of the interval value +- error


@dataclass(frozen=True)
class Observable:
    """A quantity with an error bar that can be trusted, or none.

    Attributes:
        value: in ``unit``; nan where the run gives none.
        error: half the width of the interval that holds the truth with 68 % probability (Student's
            t for the degrees of freedom is in it already); nan where the run is too short for an
            honest one, and then ``reason`` says why.
        unit: such as ``g/cm^3``.
        method: such as ``Einstein, 2-8 ps, Yeh-Hummer``.
        samples: effective number of independent samples behind the value.
        dof: degrees of freedom of the error itself; inf where it is known exactly.
        correlation_time: integrated, in ps; nan where it makes no sense.
        length: of what was averaged, ps, all replicas together; nan where it makes no sense.
        reason: why there is no error, or what to be careful about; empty where all is well.
        needs: how many times longer the run has to be before there is an error at all.
        details: whatever else the estimator found (windows, fits, curves), by name.
    """

    value: float
    error: float
    unit: str
    method: str
    samples: float
    dof: float = math.inf
    correlation_time: float = math.nan
    length: float = math.nan
    reason: str = ""
    needs: float = math.nan
    details: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def refused(self) -> bool:
        """Whether the value has no reliable error bar and must not be quoted."""
        return not (math.isfinite(self.value) and math.isfinite(self.error))

    @property
    def relative_error(self) -> float:
        """Error over value; nan where refused, inf for a value of zero."""
        if self.refused:
            return math.nan
        return abs(self.error / self.value) if self.value != 0 else math.inf

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The interval that holds the truth with probability ``level``, by Student's t.

        Returns:
            Lower and upper end, both nan where refused.
        """
        width = self.error * _quantile(level, self.dof) / _quantile(ONE_SIGMA, self.dof)
        return self.value - width, self.value + width

    def longer(self, target: float = 0.05) -> float:
        """How many times longer the run must be for a relative error of ``target``; <= 1: enough.

        The error falls with the root of the length. Where there is no error yet, the time until
        there is one (nan if that is unknown too).
        """
        if self.refused:
            return self.needs
        return (self.relative_error / target) ** 2

    def verdict(self, target: float = 0.05) -> str:
        """One plain line: converged, or how much longer the run must be, or why it is refused."""
        percent = f"{100 * target:g} %"
        if self.refused:
            more = ""
            if math.isfinite(self.needs):
                more = f"; needs at least about {_times(self.needs)} longer for any error bar"
            return f"not converged: {self.reason or 'no error bar'}{more}"
        factor = self.longer(target)
        note = f" ({self.reason})" if self.reason else ""
        if factor <= 1.0:
            return f"converged to {100 * self.relative_error:.2g} %{note}"
        if not math.isfinite(factor):
            return f"zero within its error{note}"
        return f"not converged: needs about {_times(factor)} longer for {percent}{note}"

    def scaled(self, factor: float, unit: str | None = None) -> Observable:
        """The same quantity times an exact ``factor``, such as a conversion to another ``unit``
        (None keeps it)."""
        return replace(
            self,
            value=self.value * factor,
            error=self.error * abs(factor),
            unit=self.unit if unit is None else unit,
        )

    def as_dict(self, target: float = 0.05) -> dict[str, Any]:
        """For JSON: None instead of what is not finite; details are left out."""
        numbers = ("value", "error", "samples", "dof", "correlation_time", "length")
        entry: dict[str, Any] = {name: _finite(getattr(self, name)) for name in numbers}
        words = {"unit": self.unit, "method": self.method, "verdict": self.verdict(target)}
        return entry | words | {"interval_95": [_finite(end) for end in self.interval(0.95)]}

    def __str__(self) -> str:
        """Such as ``1.284 +- 0.003 g/cm^3``: the error has two digits."""
        unit = "" if self.unit in ("", "1") else f" {self.unit}"
        if self.refused:
            return f"not known{unit}"
        if self.error == 0:
            return f"{self.value:g}{unit}"
        digits = max(0, 1 - math.floor(math.log10(self.error)))
        return f"{self.value:.{digits}f} +- {self.error:.{digits}f}{unit}"


def combine(
    function: Callable[..., float],
    parts: Mapping[str, Observable],
    unit: str,
    method: str,
    correlations: Mapping[tuple[str, str], float] | None = None,
) -> Observable:
    """A function of measured quantities, its error to first order.

    Derivatives are central differences over the parts' own errors. Degrees of freedom follow
    Welch and Satterthwaite (Biometrics Bulletin 2, 110 (1946)).

    Args:
        function: takes the values by name.
        parts: its arguments.
        unit, method: of the result.
        correlations: coefficients of pairs of names; independent where left out.
    """
    values = {name: part.value for name, part in parts.items()}
    result = function(**values)
    shifts = {}
    for name, part in parts.items():
        up = function(**(values | {name: part.value + part.error}))
        down = function(**(values | {name: part.value - part.error}))
        shifts[name] = 0.5 * (up - down)
    variance = sum(shift**2 for shift in shifts.values())
    for (one, other), coefficient in (correlations or {}).items():
        variance += 2.0 * coefficient * shifts[one] * shifts[other]
    error = math.sqrt(max(variance, 0.0))
    share = sum(shifts[name] ** 4 / part.dof for name, part in parts.items())
    reasons = [f"{name}: {part.reason}" for name, part in parts.items() if part.reason]
    waits = [part.needs for part in parts.values() if part.refused]
    return Observable(
        result,
        error,
        unit,
        method,
        samples=min(part.samples for part in parts.values()),
        dof=variance**2 / share if share > 0 else math.inf,
        length=min(part.length for part in parts.values()),
        reason="; ".join(reasons),
        needs=max(waits, default=math.nan),
        details=dict(parts),
    )


def refuse(unit: str, method: str, reason: str, **known: Any) -> Observable:
    """A quantity that this run cannot give: no number without a reliable error.

    Args:
        unit, method: as of an `Observable`.
        reason: why not, in words.
        known: further attributes of it, such as ``length``.
    """
    known = {"value": math.nan, "samples": 0.0} | known
    return Observable(error=math.nan, unit=unit, method=method, reason=reason, **known)


def _quantile(level: float, dof: float) -> float:
    """Half the width of Student's interval of probability ``level``, in standard errors."""
    return float(student.ppf(0.5 + 0.5 * level, dof))


def one_sigma(dof: float) -> float:
    """By how much the 68 % interval of Student's t is wider than one standard error."""
    return _quantile(ONE_SIGMA, dof)


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _times(factor: float) -> str:
    return f"{factor:.1f}x" if factor < 10 else f"{float(f'{factor:.2g}'):.0f}x"
