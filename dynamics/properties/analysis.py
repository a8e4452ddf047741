"""Plans carried out over state points: numbers with error, verdict, convergence, experiment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hff_ase.dynamics.observables.observable import Observable, refuse
from hff_ase.dynamics.properties.curves import Curve
from hff_ase.dynamics.properties.frames import Progress
from hff_ase.dynamics.properties.material import Material
from hff_ase.dynamics.properties.plans import Plan, plans_of
from hff_ase.dynamics.properties.snapshot import snapshot
from hff_ase.dynamics.properties.state import PRESSURE, VOLUME, StatePoint
from hff_ase.dynamics.properties.window import Window
from hff_ase.dynamics.reference.lookup import Measurement, measured
from hff_ase.errors import ConfigError, HFFError, RecipeError, SimulationError

__all__ = ["Analysis", "Convergence", "Quantity", "StateResult", "analyse"]

SHARES = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8)  # of each replica, for convergence


@dataclass(frozen=True)
class Convergence:
    """A quantity against the time used.

    Attributes:
        time: of each replica, ps.
        value, error: at each; nan where there is none.
    """

    time: tuple[float, ...]
    value: tuple[float, ...]
    error: tuple[float, ...]


@dataclass(frozen=True)
class Quantity:
    """One quantity of a state point with error, verdict and experiment.

    Attributes:
        plan: name of the plan that it is of.
        found: the number.
        target: relative error that the verdict asks for.
        experiment: what was measured; None where nothing is known.
        convergence: None where it was not looked at.
        replicas: each replica alone; empty for one.
        doubt: why the runs cannot be trusted to be of equilibrium yet; empty where they can.
    """

    plan: str
    found: Observable
    target: float
    experiment: Measurement | None = None
    convergence: Convergence | None = None
    replicas: tuple[Observable, ...] = ()
    doubt: str = ""

    @property
    def verdict(self) -> str:
        """Whether it has converged, and how much longer it takes if not."""
        own = self.found.verdict(self.target)
        return f"not settled ({self.doubt}); else {own}" if self.doubt else own


@dataclass(frozen=True)
class StateResult:
    """What was found of one state point.

    Attributes:
        state: where from.
        quantities: by name, such as ``self_diffusion/Li``.
        curves: by property.
        composition: molecules of each species in a box.
        n_atoms, n_replicas: of a box; boxes.
        notes: what to be careful about.
        structure: the last frame, for the page; None for a box too large to show.
    """

    state: StatePoint
    quantities: Mapping[str, Quantity]
    curves: Mapping[str, Sequence[Curve]]
    composition: Mapping[str, int]
    n_atoms: int
    n_replicas: int
    notes: tuple[str, ...] = ()
    structure: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Analysis:
    """The state points of one request.

    Attributes:
        results: of each.
        about: what else belongs into properties.json.
    """

    results: tuple[StateResult, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


def analyse(
    states: Sequence[StatePoint],
    properties: Sequence[str] = (),
    *,
    convergence: bool = True,
    progress: Progress | None = None,
) -> Analysis:
    """Compute properties of state points.

    Args:
        states: of `read_folder` or `from_trajectories`.
        properties: names of `PLANS`; empty for the usual ones.
        convergence: compute the quantities again over shorter stretches and for each replica.
        progress: called with numbers of frames as they are read.

    Raises:
        ConfigError: no state points, or no such property.
        SimulationError: a damaged file. A quantity that a run is too short or unfit for
            is not an error: it is refused in the result, with the reason.
    """
    if not states:
        raise ConfigError("expected state points to analyse, got none")
    plans_of(properties)
    return Analysis(tuple(_of_state(state, properties, convergence, progress) for state in states))


def _of_state(
    state: StatePoint, properties: Sequence[str], convergence: bool, progress: Progress | None
) -> StateResult:
    material = Material(state, progress)
    topology = material.topology
    charged = topology.charges is not None and bool(np.any(topology.charges != 0))
    quantities: dict[str, Quantity] = {}
    curves: dict[str, Sequence[Curve]] = {}
    observables: dict[str, Observable] = {}
    for name, plan in plans_of(properties, charged).items():
        window = Window(material, found=observables)
        found = _compute(plan, name, window)
        observables |= found
        for key, one in found.items():
            wanted = _measured(plan, key, state)
            doubt = _doubt(plan, material)
            quantities[key] = Quantity(name, one, plan.target, wanted, doubt=doubt)
        if convergence and plan.replays and any(np.isfinite(one.value) for one in found.values()):
            quantities |= _with_convergence(plan, name, material, observables, quantities)
        if plan.curves is not None:
            try:
                curves[name] = list(plan.curves(replace(window, found=observables)))
            except ConfigError:
                curves[name] = []  # without a value nothing can be drawn
    told = any("not settled" in note for note in state.notes)
    doubts = [] if told else [f"not settled: {n}: {w}" for n, w in material.doubts.items()]
    return StateResult(
        state,
        quantities,
        curves,
        {kind: len(topology.of_kind(kind)) for kind in topology.kinds},
        topology.n_atoms,
        max(material.n_replicas(held) for held in (PRESSURE, VOLUME)),
        (*state.notes, *doubts),
        _last(material),
    )


def _last(material: Material) -> dict[str, Any] | None:
    """The last frame that was read."""
    frame = material.last
    return None if frame is None else snapshot(frame.positions[-1], frame.cells[-1], frame.topology)


def _compute(plan: Plan, name: str, window: Window) -> dict[str, Observable]:
    """The quantities of a plan; what the runs are unfit for, refused with the reason."""
    try:
        return _honest(plan, window, plan.compute(window))
    except HFFError as reason:
        if isinstance(reason, SimulationError):
            raise  # a damaged file, which no longer run would mend
        return {name: refuse(plan.unit, plan.title, str(reason))}


def _honest(plan: Plan, window: Window, found: Mapping[str, Observable]) -> dict[str, Observable]:
    """Without errors where the replicas are shorter than the plan asks for at least."""
    if plan.least == 0:
        return dict(found)
    length = window.share * _length(plan, window)
    if length >= plan.least:
        return dict(found)
    reason = f"each run is {length:.3g} ps long, at least {plan.least:g} ps are needed"
    return {
        key: replace(one, error=math.nan, reason=reason, needs=plan.least / length)
        for key, one in found.items()
    }


def _doubt(plan: Plan, material: Material) -> str:
    """Why what constant pressure gives is not of equilibrium yet."""
    if plan.held != PRESSURE or not material.doubts:
        return ""
    name, why = next(iter(material.doubts.items()))
    return f"{name.partition('[')[0]}: {why}"


def _measured(plan: Plan, key: str, state: StatePoint) -> Measurement | None:
    """The measured value of a quantity."""
    quantity = (plan.measured or {}).get(key)
    if quantity is None or state.recipe is None:
        return None
    try:
        return measured(quantity, state.recipe, state.temperature)
    except RecipeError:
        return None


def _with_convergence(
    plan: Plan,
    name: str,
    material: Material,
    observables: Mapping[str, Observable],
    quantities: Mapping[str, Quantity],
) -> dict[str, Quantity]:
    """The plan's quantities with what shorter windows and single replicas give."""
    own = [key for key, one in quantities.items() if one.plan == name]
    whole = Window(material)
    points: dict[str, list[tuple[float, float, float]]] = {key: [] for key in own}
    each = _length(plan, whole)
    for share in SHARES:
        found = _compute(plan, name, replace(whole, share=share, found=dict(observables)))
        _add(points, found, share * each)
    _add(points, observables, each)
    alone: dict[str, list[Observable]] = {key: [] for key in own}
    for number in _replicas(plan, material):
        found = _compute(plan, name, replace(whole, replica=number, found=dict(observables)))
        for key in own:
            if key in found:
                alone[key].append(found[key])
    return {
        key: replace(
            quantities[key],
            convergence=Convergence(*zip(*points[key], strict=True)) if points[key] else None,
            replicas=tuple(alone[key]),
        )
        for key in own
    }


def _add(
    points: dict[str, list[tuple[float, float, float]]],
    found: Mapping[str, Observable],
    time: float,
) -> None:
    """What a window gave, where it gave something."""
    for key, known in points.items():
        one = found.get(key)
        if one is not None and math.isfinite(one.value):
            known.append((time, one.value, one.error))


def _length(plan: Plan, window: Window) -> float:
    """Length of what a plan uses of each replica, ps."""
    held = plan.held or window.material.sampled
    stretches = window.material.state.held(held)
    if stretches and stretches[0].statistics is None:
        parts = list(window.material.frames(held)[0])
        return float(parts[-1].times[-1] - parts[0].times[0])
    series, interval = window.series(held, "step")
    return interval * min(map(len, series))


def _replicas(plan: Plan, material: Material) -> Iterator[int]:
    """Places of the replicas, where there are several."""
    n = material.n_replicas(plan.held or material.sampled)
    yield from range(n if n > 1 else 0)
