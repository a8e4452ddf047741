"""Limits of a step beyond which the structure is checked in detail."""

from __future__ import annotations

from dataclasses import dataclass

from hff_ase.dynamics.config import MDConfig

HUGE_FORCE = 100.0  # eV/Angstrom; nothing in a liquid feels this, so it starts a search at once


@dataclass(frozen=True)
class Limits:
    """Largest values that need no closer look; NaN is beyond every limit.

    Attributes:
        displacement: of an atom, Angstrom.
        temperature: K.
        force: the largest component, eV/Angstrom.
    """

    displacement: float
    temperature: float
    force: float = HUGE_FORCE

    @classmethod
    def of(cls, config: MDConfig) -> Limits:
        """The limits that the settings of a run ask for."""
        return cls(config.max_displacement, config.max_temperature)
