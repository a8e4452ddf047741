"""Times: of an integrator in fs or with their unit, lengths of runs always with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic_core import CoreSchema, core_schema

from hff_ase.errors import ConfigError

FEMTOSECONDS = {"fs": 1.0, "ps": 1e3, "ns": 1e6, "us": 1e9}


def parse_time(text: object) -> float:
    """A time such as ``50ps``, ``0.5 ns`` or ``200fs``, in fs.

    Raises:
        ConfigError: not a positive number followed by fs, ps, ns or us.
    """
    number = r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*"
    match = re.fullmatch(number + f"({'|'.join(FEMTOSECONDS)})\\s*", str(text))
    if match is None or not 0 < float(match[1]) < float("inf"):
        raise ConfigError(
            f"expected a positive time with its unit, such as 50ps, 0.5ns or 200fs, got {text!r}"
        )
    return float(match[1]) * FEMTOSECONDS[match[2]]


@dataclass(frozen=True)
class Femtoseconds:
    """A float that is a time of an integrator in fs; a text may have another unit (``0.5fs``).

    Numbers outside of the range were probably meant in another unit: LAMMPS and GROMACS have ps.

    Attributes:
        least, most: fs.
    """

    least: float
    most: float

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        schema: CoreSchema = handler(source)
        read = core_schema.no_info_before_validator_function(self.read, schema)
        return core_schema.no_info_after_validator_function(self.check, read)

    def read(self, value: object) -> object:
        """A text as a number of fs."""
        if not isinstance(value, str):
            return value
        try:
            return float(value)
        except ValueError:
            return parse_time(value)

    def check(self, value: float) -> float:
        """The time, if it is within the range."""
        if self.least <= value <= self.most:
            return value
        in_ps = self.least <= 1000 * value <= self.most
        meant = f" (in ps? write {value:g}ps)" if in_ps else ""
        raise ConfigError(
            f"expected a time from {self.least:g} to {self.most:g} fs, got {value:g} fs{meant}"
        )


@dataclass(frozen=True)
class LengthOfTime:
    """A text that is a time with its unit, such as ``50ps``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        schema: CoreSchema = handler(source)
        return core_schema.no_info_before_validator_function(self.check, schema)

    def check(self, value: object) -> object:
        """The text, if it is one."""
        if value is not None:
            parse_time(value)
        return value


TimeStep = Annotated[float, Femtoseconds(0.01, 10.0)]
TimeConstant = Annotated[float, Femtoseconds(1.0, 1e6)]
Duration = Annotated[str, LengthOfTime()]
