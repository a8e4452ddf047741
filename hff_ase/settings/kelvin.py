"""Temperatures of liquids, in K; those that were probably meant in degrees Celsius are refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from hff_ase.errors import ConfigError

LOWEST, HIGHEST = 60.0, 5000.0  # K: whatever this package simulates is solid below
CELSIUS = 273.15


def check_kelvin(value: float) -> float:
    """The temperature, if it can be one of a liquid in K.

    Raises:
        ConfigError: it cannot; says what it is in K where degrees Celsius make sense.
    """
    if LOWEST <= value <= HIGHEST:
        return value
    meant = f" (in Celsius? write {value + CELSIUS:g})" if -CELSIUS < value < LOWEST else ""
    raise ConfigError(
        f"expected a temperature of a liquid in K, {LOWEST:g} to {HIGHEST:g}, got {value:g}{meant}"
    )


Kelvin = Annotated[float, AfterValidator(check_kelvin)]
