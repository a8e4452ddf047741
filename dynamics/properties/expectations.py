"""The relative error that a run of a given length likely gives, before it is run.

Errors fall with the root of the time of all replicas together. What stands before that root is
taken from an earlier analysis of the same state point where there is one; otherwise from times of
correlation that are typical of liquids of small molecules at room temperature. Those are stated: a
viscous electrolyte has ten times longer ones, a hot solvent shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ase import units


@dataclass(frozen=True)
class Sizes:
    """What an error depends on.

    Attributes:
        volume: of a box, Angstrom^3.
        temperature: K.
        numbers: molecules of each species in a box.
        ions: the smallest number of one charged species; 0 without ions.
        replicas: boxes.
        npt, nvt: length of each at constant pressure and volume, ps.
    """

    volume: float
    temperature: float
    numbers: Mapping[str, int]
    ions: int
    replicas: int
    npt: float
    nvt: float


@dataclass(frozen=True)
class Expectation:
    """How to guess an error.

    Attributes:
        error: relative.
        assumption: what the guess rests on.
        least: length of each box below which there is no error at all, ps.
    """

    error: Callable[[Sizes], float]
    assumption: str
    least: float = 0.0


def _density(sizes: Sizes) -> float:
    fluctuation = math.sqrt(units.kB * sizes.temperature / units.GPa / sizes.volume)
    return fluctuation * math.sqrt(2 * 5.0 / (sizes.replicas * sizes.npt))


def _compressibility(sizes: Sizes) -> float:
    return math.sqrt(4 * 2.0 / (sizes.replicas * sizes.npt))


def _viscosity(sizes: Sizes) -> float:
    # five series; a fit up to 1/(20 tau), whose few parameters double the error of a mean
    return 2.0 * math.sqrt(20 * 1.0 / (5 * sizes.replicas * sizes.nvt))


def _diffusion(sizes: Sizes) -> float:
    fewest = min(sizes.numbers.values())
    return math.sqrt(2 * 30.0 / (3 * fewest * sizes.replicas * sizes.nvt))


def _conductivity(sizes: Sizes) -> float:
    return math.sqrt(1.0 / (3 * 0.01 * sizes.replicas * sizes.nvt))


def _permittivity(sizes: Sizes) -> float:
    return math.sqrt(4 / 3 * 10.0 / (sizes.replicas * sizes.nvt))


def _solvation(sizes: Sizes) -> float:
    exchanges = max(1.0, sizes.nvt / 2000.0)
    return 0.25 / math.sqrt(max(sizes.ions, 1) * sizes.replicas * exchanges)


EXPECTED: dict[str, Expectation] = {
    "density": Expectation(
        _density, "compressibility 1/GPa, the volume forgets within 5 ps", 100.0
    ),
    "compressibility": Expectation(_compressibility, "the volume forgets within 2 ps", 80.0),
    "viscosity": Expectation(_viscosity, "stress relaxes within 1 ps", 150.0),
    "diffusion": Expectation(_diffusion, "diffusive from 10 ps on; the rarest species", 250.0),
    "conductivity": Expectation(_conductivity, "charge diffuses below 10 GHz", 100.0),
    "transference": Expectation(
        lambda sizes: 1.4 * _conductivity(sizes), "charge diffuses below 10 GHz", 100.0
    ),
    "permittivity": Expectation(_permittivity, "dipoles turn within 10 ps", 400.0),
    "solvation": Expectation(_solvation, "a shell exchanges once in 1 ns"),
}


@dataclass(frozen=True)
class Expected:
    """A line of the plan.

    Attributes:
        quantity: property, or quantity of an earlier analysis.
        error: relative; nan where the run is too short for one.
        target: that a verdict asks for.
        factor: how many times longer the boxes would have to be for it; <= 1: enough.
        basis: what the guess rests on.
    """

    quantity: str
    error: float
    target: float
    factor: float
    basis: str


def expect(name: str, target: float, held: str, sizes: Sizes) -> Expected | None:
    """The error to expect of a property; None where nothing is known of how it behaves."""
    known = EXPECTED.get(name)
    if known is None:
        return None
    length = sizes.npt if held == "pressure" else sizes.nvt
    error = known.error(sizes)
    factor = (error / target) ** 2
    if length < known.least:
        factor = max(factor, known.least / length)
        note = f"{known.assumption}; no error below {known.least:g} ps a box"
        return Expected(name, math.nan, target, factor, note)
    return Expected(name, error, target, factor, known.assumption)


def expect_again(name: str, entry: Mapping[str, Any], length: float) -> Expected | None:
    """The expected error of a quantity that was analysed before, for another total ``length`` of
    all boxes, ps; None where it had no value, error or length."""
    if not entry["value"] or entry["error"] is None or not entry["length[ps]"]:
        return None
    error = abs(entry["error"] / entry["value"]) * math.sqrt(entry["length[ps]"] / length)
    basis = f"{100 * abs(entry['error'] / entry['value']):.2g} % after {entry['length[ps]']:.4g} ps"
    return Expected(name, error, entry["target"], (error / entry["target"]) ** 2, basis)
