"""The length of each stage that a budget allows, from a short timing, and the expected errors."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from hff_ase.dynamics.equilibration.protocol import EquilibrationConfig
from hff_ase.dynamics.observables.topology import topology_of
from hff_ase.dynamics.properties.expectations import Expected, Sizes, expect, expect_again
from hff_ase.dynamics.properties.plans import PLANS
from hff_ase.dynamics.properties.request import Request
from hff_ase.dynamics.properties.state import PRESSURE
from hff_ase.dynamics.properties.table import PROPERTIES, read_properties
from hff_ase.settings import parse_time

TIMED = 5  # evaluations
SETTLING, PRESSED = 0.25, 0.2  # shares of the budget: equilibration at most, constant pressure
LEAST = 20.0  # ps of anything


@dataclass(frozen=True)
class Lengths:
    """Lengths of the stages of each box of a state point that a budget allows.

    Attributes:
        npt, nvt: lengths of production.
        settle: longest equilibration at constant pressure; None for its own default.
    """

    npt: str
    nvt: str
    settle: str | None


@dataclass(frozen=True)
class RunPlan:
    """A plan for a budget: lengths and expected errors.

    Attributes:
        request: what is asked.
        n_atoms: of a box.
        speed: seconds per step of all boxes of a state point.
        lengths: of each box.
        expected: errors of the first state point.
    """

    request: Request
    n_atoms: int
    speed: float
    lengths: Lengths
    expected: tuple[Expected, ...]


def measure_speed(calc: Any, boxes: Sequence[Atoms]) -> float:
    """Seconds per step of all boxes in one batch, from a few evaluations of forces and stress.

    A step of molecular dynamics costs a tenth more (docs/replicas.md); that is added.
    """
    calc.evaluate(list(boxes))  # compiles, searches neighbours
    seconds = []
    for _ in range(TIMED):
        started = time.perf_counter()
        calc.evaluate(list(boxes))
        seconds.append(time.perf_counter() - started)
    return 1.1 * min(seconds)


def lengths_of(request: Request, hours: float, speed: float) -> Lengths:
    """Lengths of the stages of one state point for its budget.

    Args:
        request: what is asked; lengths given there are kept.
        hours: for the state point.
        speed: seconds per step of all boxes.
    """
    given = {"model": request.model, **request.equilibration}
    defaults = EquilibrationConfig.load(given)
    slow = 3600.0 * hours / speed * 1e-3  # ps per fs of time step, of the whole budget
    first = defaults.replicas.shared.timestep
    protocol = defaults.protocol
    before = 1e-3 * (parse_time(protocol.hot) + parse_time(protocol.cool))
    settle = max(SETTLING * slow * first - before, LEAST, 1.1e-3 * parse_time(protocol.soft))
    settle = min(settle, 1e-3 * parse_time(protocol.max_time))
    if request.npt:
        npt = 1e-3 * parse_time(request.npt)
    else:
        share = PRESSED if request.needs_volume else 1.0 - SETTLING
        npt = max(share * slow * first, LEAST)
    used = (before + settle + npt) / first
    nvt = max((slow - used) * request.timestep, LEAST)
    return Lengths(_text(npt), request.nvt or _text(nvt), _text(settle))


def expectations(
    request: Request, box: Atoms, lengths: Lengths, folder: Path | None = None
) -> list[Expected]:
    """The expected error of every property at these lengths.

    Args:
        request: what is asked.
        box: one of the boxes.
        lengths: of production.
        folder: with an earlier analysis, whose errors are scaled; None for none.
    """
    topology = topology_of(box)
    charges = topology.kind_charges()
    numbers = {kind: len(topology.of_kind(kind)) for kind in topology.kinds}
    ions = [numbers[kind] for kind, charge in charges.items() if charge != 0]
    npt, nvt = (1e-3 * parse_time(one) for one in (lengths.npt, lengths.nvt))
    sizes = Sizes(
        float(box.get_volume()),
        request.temperature[0],
        numbers,
        min(ions, default=0),
        request.replicas,
        npt,
        nvt,
    )
    known = _earlier(folder)
    found = []
    for name in request.wanted:
        plan = PLANS[name]
        if plan.ions is not None and plan.ions != bool(ions):
            continue
        length = request.replicas * (npt if plan.held == PRESSURE else nvt)
        again = [
            expect_again(key, entry, length)
            for key, entry in known.items()
            if entry["property"] == name
        ]
        own = [one for one in again if one is not None]
        if not own:
            guess = expect(name, plan.target, plan.held, sizes)
            own = [] if guess is None else [guess]
        found += own
    return found


def make_plan(request: Request, folder: Path | None = None) -> RunPlan:
    """Time a few steps and make a plan for the budget.

    Args:
        request: what is asked; without a budget, of one hour.
        folder: with an earlier analysis, whose errors are scaled; None for none.

    Raises:
        HFFError: a recipe that cannot be packed, or a model that cannot evaluate it.
    """
    from hff_ase.dynamics.properties.stages import build

    box = build(request.recipes[0], request.atoms, request.seed)
    speed = measure_speed(load(request), [box] * request.replicas)
    lengths = lengths_of(request, (request.hours or 1.0) / len(request.points), speed)
    return RunPlan(
        request, len(box), speed, lengths, tuple(expectations(request, box, lengths, folder))
    )


def load(request: Request) -> Any:
    """The model of a request."""
    from hff_ase.calculators import HybridFF

    return HybridFF.load(str(request.model), dtype=request.dtype, device=request.device)


def table(plan: RunPlan) -> list[str]:
    """The plan as lines of text."""
    request, lengths = plan.request, plan.lengths
    rows = [("quantity", "error to expect", "wanted", "takes", "from")]
    for one in plan.expected:
        known = PLANS.get(one.quantity)
        length = lengths.npt if known is not None and known.held == PRESSURE else lengths.nvt
        takes = "enough" if one.factor <= 1 else f"{one.factor:.2g} x {length}"
        error = "none" if math.isnan(one.error) else f"{100 * one.error:.2g} %"
        rows.append((one.quantity, error, f"{100 * one.target:g} %", takes, one.basis))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    told = [
        f"{1e3 * plan.speed:.3g} ms per step of {request.replicas} boxes of {plan.n_atoms} atoms",
        f"{len(request.points)} state points, each: at most {lengths.settle} until settled at "
        f"constant pressure, then {lengths.npt} at constant pressure"
        + (f" and {lengths.nvt} at constant volume" if request.needs_volume else ""),
    ]
    return told + ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def as_dict(plan: RunPlan) -> dict[str, Any]:
    """As a dict for JSON."""
    rows = [
        {**vars(one), "error": None if math.isnan(one.error) else one.error}
        for one in plan.expected
    ]
    return {"seconds_per_step": plan.speed, "lengths": vars(plan.lengths), "expected": rows}


def _earlier(folder: Path | None) -> Mapping[str, Any]:
    """Quantities of the first state point of an earlier analysis."""
    if folder is None or not (folder / PROPERTIES).is_file():
        return {}
    states = read_properties(folder)["states"]
    return dict(states[0]["quantities"]) if states else {}


def _text(picoseconds: float) -> str:
    """A length in whole picoseconds."""
    return f"{max(round(picoseconds), 1)}ps"
