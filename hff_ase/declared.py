"""Declarations of a term's physical parameters, for training, calibration and fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Declared"]

Transform = Literal["none", "log"]


@dataclass(frozen=True)
class Declared:
    """The declaration of one parameter of a term.

    Attributes:
        unit: in ASE's units, "1" for a plain number.
        transform: what is calibrated, the value or its logarithm (for what must stay positive).
        prior_width: how far the transformed value is expected to lie from where it starts; for a
            table whose columns mean different things, one per column.
        meaning: one line.
    """

    unit: str
    transform: Transform = "none"
    prior_width: float | tuple[float, ...] = 1.0
    meaning: str = ""
