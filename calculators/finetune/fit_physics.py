"""Physical terms of molecules fitted to decomposed interaction energies, by component."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hff_ase.calculators.finetune.components import COMPONENTS, InteractionEnergies
from hff_ase.calculators.finetune.fit_directions import Directions, directions
from hff_ase.calculators.finetune.gauss_newton import Problem
from hff_ase.calculators.finetune.physics_prior import Scan, scans_of, with_molecules
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.domain import Naming
from hff_ase.errors import ConfigError
from hff_ase.parameter_vector import ParameterVector
from hff_ase.training.fit_config import PhysicsSettings
from hff_ase.units import KCAL_PER_MOL

__all__ = ["PhysicsFit", "fit_physics"]

Array = NDArray[np.float64]
FITTED = (
    "*.charge.value", "*.values.radius.value", "*.values.epsilon.value",
    "*.values.steepness.value", "*.values.c6.value", "*.values.strength.value",
    "*.values.decay.value", "*.polarizability.value", "*.damping.value",
)  # fmt: skip
DAMPINGS = (0.0, 1e-2, 1.0, 1e2, 1e4)
# ByteFF-Pol's weight of a frame, exp(-max(0, min(E, E') - FLAT)/DECAY) of the totals E, E'
FLAT, DECAY = 10.0 * KCAL_PER_MOL, 2.0 * KCAL_PER_MOL
NAMES = (*COMPONENTS, "total")


@dataclass(frozen=True, eq=False)
class PhysicsFit:
    """What a fit did.

    Attributes:
        labels: of the parameters that moved.
        start, theta: [n] before and after, values or their logarithms.
        width, posterior: [n], of the prior, and where labels and prior leave them (Laplace).
        scans, held_out: of each frame, its scan and whether it was not fitted.
        wanted, before, after: [n_frames, 5], eV: components in the order of `NAMES`.
        objective: at each iteration, the first before.
    """

    labels: list[str]
    start: Array
    theta: Array
    width: Array
    posterior: Array
    scans: list[str]
    held_out: NDArray[np.bool_]
    wanted: Array
    before: Array
    after: Array
    objective: list[float]

    def errors(self, values: Array, which: NDArray[np.bool_]) -> Array:
        """Root mean square errors of components, weighted as in the fit, [5], eV.

        Args:
            values: [n_frames, 5], eV.
            which: of the frames, bool [n_frames].
        """
        if not which.any():
            return np.full(len(NAMES), np.nan)
        weight = frame_weights(values, self.wanted)[which, None]
        return np.asarray(
            np.sqrt((weight * (values - self.wanted)[which] ** 2).sum(0) / weight.sum())
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        groups = {"fitted": ~self.held_out, "held_out": self.held_out}
        return {
            "parameters": {
                label: {"before": b, "after": a, "prior_width": w, "width": s}
                for label, b, a, w, s in zip(
                    self.labels, self.start, self.theta, self.width, self.posterior, strict=True
                )
            },
            "errors_kcal_per_mol": {
                name: {
                    "n_frames": int(which.sum()),
                    "prior": dict(zip(NAMES, self._kcal(self.before, which), strict=True)),
                    "fit": dict(zip(NAMES, self._kcal(self.after, which), strict=True)),
                }
                for name, which in groups.items()
                if which.any()
            },
            "objective": self.objective,
        }

    def _kcal(self, values: Array, which: NDArray[np.bool_]) -> list[float]:
        return [float(x) for x in self.errors(values, which) / KCAL_PER_MOL]

    def markdown(self) -> str:
        """Errors by component, kcal/mol, as a table."""
        heads = [name.replace("_", " ") for name in NAMES]
        lines = [" | ".join(["frames", *heads]), " | ".join(["---"] * (1 + len(heads)))]
        for what, which in (("fitted", ~self.held_out), ("held out", self.held_out)):
            for stage, values in (("prior", self.before), ("fit", self.after)):
                if which.any():
                    numbers = [f"{x:.3f}" for x in self._kcal(values, which)]
                    lines.append(" | ".join([f"{which.sum()} {what}, {stage}", *numbers]))
        return "\n".join(f"| {line} |" for line in lines) + "\n"


def frame_weights(values: Array, wanted: Array) -> Array:
    """Weights [n_frames] of [n_frames, 5] energies: less where both totals are high."""
    lower = np.minimum(values[:, -1], wanted[:, -1])
    return np.asarray(np.exp(-np.maximum(0.0, lower - FLAT) / DECAY))


def fit_physics(
    prior: HybridFF,
    frames: Sequence[Atoms],
    molecules: Collection[str],
    *,
    held_out: Collection[str] = (),
    naming: Naming | None = None,
    settings: PhysicsSettings | Mapping[str, Any] | None = None,
) -> tuple[HybridFF, PhysicsFit]:
    """Fit charges, sizes, polarisabilities and strengths of molecules' atoms to components.

    The squared errors of dispersion, electrostatics + Pauli, polarisation and charge transfer count
    once each and that of the total ten times (ByteFF-Pol's weights, arXiv 2508.08575), all in units
    of ``settings.error``. Molecules that the prior model does not have start from the most similar
    atoms of those that it has (`hff_ase.molecular.likeness`); their bonded terms stay there.

    Args:
        prior: a model of ByteFF-Pol's terms; left unchanged.
        frames: clusters of rigid molecules with ``eda_*`` (eV) as `EDALabeller` makes them.
        molecules: names of those whose parameters are fitted.
        held_out: scans that are not fitted: ``info["scan"]``, or molecules such as "EMC+Li".
        naming: what a molecule is called that the prior model does not have.
        settings: `PhysicsSettings`.

    Returns:
        The fitted calculator and what was done.

    Raises:
        ConfigError: nothing to fit, a name that no frame has, a model of other terms.
        StructureError: a frame without labels or with molecules that no model knows.
    """
    chosen = PhysicsSettings.load(settings)
    scans = scans_of(frames, prior, naming)
    potential, info = with_molecules(prior, scans, molecules)
    wanted = {name.casefold() for name in held_out}
    out = np.array([scan.name.casefold() in wanted for scan in scans])
    unknown = wanted - {scan.name.casefold() for scan in scans}
    if unknown or out.all():
        known = ", ".join(sorted({scan.name for scan in scans}))
        raise ConfigError(
            f"expected scans to hold out among {known}, not all, got {', '.join(held_out)}"
        )
    work = _Work(potential, scans, out, molecules, chosen)
    report = work.run()
    info = replace(info, details={**info.details, "fit_physics": report.as_dict()})
    made = HybridFF(potential, info, device=str(prior.device), dtype=prior.dtype, skin=prior.skin)
    return made, report


class _Work:
    """The iterations of a fit."""

    def __init__(
        self,
        potential: Any,
        scans: Sequence[Scan],
        out: NDArray[np.bool_],
        molecules: Collection[str],
        settings: PhysicsSettings,
    ) -> None:
        self.settings, self.scans, self.out = settings, list(scans), out
        self.energies = InteractionEnergies(
            potential, [s.atoms for s in scans], [s.charges for s in scans]
        )
        names = {name.casefold() for name in molecules}
        known = [n for s in scans for n in s.molecules if n.casefold() in names]
        self.theta = ParameterVector(potential, FITTED)
        self.directions: Directions = directions(self.theta, set(known), settings.prior_widths)
        self.wanted = _with_total(np.array([s.labels for s in scans]))
        self.start = self.theta.get()
        scales = np.sqrt([*[1.0] * len(COMPONENTS), settings.total])
        self.scale = scales / settings.error

    def run(self) -> PhysicsFit:
        """Steps until nothing changes any more."""
        before = values = self._values()
        objective = [self._objective(values, frame_weights(values, self.wanted))]
        problem = self._problem(values)
        for _ in range(self.settings.iterations):
            taken = self._step(problem, values)
            if taken is None:
                break
            values, last, now = taken
            problem = self._problem(values)
            objective.append(now)
            if last - now < self.settings.converged * max(last, 1e-12):
                break
        covariance = np.diag(problem.covariance())
        which = self.directions.chosen
        return PhysicsFit(
            self.directions.labels,
            self.start[which],
            self.theta.get()[which],
            self.settings.prior_widths * self.theta.prior_width[which],
            np.sqrt(np.maximum(covariance[which], 0.0)),
            [scan.name for scan in self.scans],
            self.out,
            self.wanted,
            before,
            values,
            objective,
        )

    def _step(self, problem: Problem, values: Array) -> tuple[Array, float, float] | None:
        """A step that makes the objective less, at the weights before it."""
        at, weight = self.theta.get(), frame_weights(values, self.wanted)
        last = self._objective(values, weight)
        for damping in DAMPINGS:
            try:
                self.theta.set(at + problem.step(damping))
                found = self._values()
            except ConfigError:  # numbers that a term refuses
                continue
            now = self._objective(found, weight)
            if np.isfinite(now) and now < last:
                return found, last, now
        self.theta.set(at)
        return None

    def _values(self) -> Array:
        return _with_total(self.energies.energies())

    def _residuals(self, values: Array, weight: Array) -> Array:
        rows = np.sqrt(weight)[:, None] * self.scale * (values - self.wanted)
        return np.asarray(rows[~self.out].reshape(-1))

    def _objective(self, values: Array, weight: Array) -> float:
        offset = (self.theta.get() - self.start) / self.directions.width
        return float((self._residuals(values, weight) ** 2).sum() + (offset**2).sum())

    def _problem(self, values: Array) -> Problem:
        weight = frame_weights(values, self.wanted)
        slopes = self.energies.gradients(self.theta)
        slopes = np.concatenate([slopes, slopes.sum(1, keepdims=True)], axis=1)
        rows = np.sqrt(weight)[:, None, None] * self.scale[:, None] * slopes
        jacobian = rows[~self.out].reshape(-1, slopes.shape[-1])
        return Problem(
            self._residuals(values, weight),
            jacobian,
            self.theta.get() - self.start,
            self.directions.width,
            self.directions.basis,
        )


def _with_total(values: Array) -> Array:
    return np.concatenate([values, values.sum(1, keepdims=True)], axis=1)
