"""Physical terms of molecules fitted to decomposed interaction energies, by component."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hff_ase.calculators.finetune.ab_initio import LabelledForces
from hff_ase.calculators.finetune.components import COMPONENTS, InteractionEnergies
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.fit_directions import Directions, directions
from hff_ase.calculators.finetune.fit_experiment import Experiment, Seen, reaches
from hff_ase.calculators.finetune.gauss_newton import Problem
from hff_ase.calculators.finetune.physics_prior import Scan, scans_of, with_molecules
from hff_ase.calculators.finetune.physics_report import PhysicsFit, frame_weights
from hff_ase.calculators.finetune.targets import Target
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.domain import Naming
from hff_ase.errors import ConfigError
from hff_ase.parameter_vector import ParameterVector
from hff_ase.training.fit_config import PhysicsSettings

__all__ = ["PhysicsFit", "fit_physics"]

Array = NDArray[np.float64]
FITTED = (
    "*.charge.value", "*.values.radius.value", "*.values.epsilon.value",
    "*.values.steepness.value", "*.values.c6.value", "*.values.strength.value",
    "*.values.decay.value", "*.polarizability.value", "*.damping.value",
)  # fmt: skip
DAMPINGS = (0.0, 1e-2, 1.0, 1e2, 1e4)


def fit_physics(
    prior: HybridFF,
    frames: Sequence[Atoms],
    molecules: Collection[str],
    *,
    held_out: Collection[str] = (),
    naming: Naming | None = None,
    forces: Sequence[Atoms] = (),
    ensembles: Sequence[Ensemble] = (),
    targets: Sequence[Target] = (),
    settings: PhysicsSettings | Mapping[str, Any] | None = None,
) -> tuple[HybridFF, PhysicsFit]:
    """Fit charges, sizes, polarisabilities and strengths of molecules' atoms to components.

    The squared errors of dispersion, electrostatics + Pauli, polarisation and charge transfer count
    once each and that of the total ten times (ByteFF-Pol's weights, arXiv 2508.08575), all in units
    of ``settings.error``. With labelled frames and ``settings.weight`` the squared error of forces,
    over what it was, is added; with targets their squared deviations, in units of their
    uncertainties, by reweighting samples of ``prior``.

    Molecules that the prior model does not have start from the most similar atoms of those that it
    has (`hff_ase.molecular.likeness`); their bonded terms stay there.

    Args:
        prior: a model of ByteFF-Pol's terms; left unchanged.
        frames: clusters of rigid molecules with ``eda_*`` (eV) as `EDALabeller` makes them.
        molecules: names of those whose parameters are fitted.
        held_out: scans that are not fitted: ``info["scan"]``, or molecules such as "EMC+Li".
        naming: what a molecule is called that the prior model does not have.
        forces: frames with forces, for the second loss or for its change to be reported.
        ensembles: samples of liquids, of ``prior``.
        targets: measured values; those kept out are predicted only.
        settings: `PhysicsSettings`.

    Returns:
        The fitted calculator and what was done.

    Raises:
        ConfigError: nothing to fit, a name that no frame has, a model of other terms, a weight
            without frames with forces, samples without targets or targets without samples.
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
    if chosen.weight > 0 and not forces:
        raise ConfigError("expected labelled frames with a weight of forces, got none")
    work = _Work(potential, scans, out, molecules, chosen)
    if forces:
        work.labelled = LabelledForces(forces, potential)
    if targets or ensembles:
        work.experiment = Experiment(
            ensembles, targets, prior.potential, work.theta, chosen.n_draws, chosen.seed
        )
    report = work.run()
    info = replace(info, details={**info.details, "fit_physics": report.as_dict()})
    made = HybridFF(potential, info, device=str(prior.device), dtype=prior.dtype, skin=prior.skin)
    return made, report


@dataclass(frozen=True, eq=False)
class _Point:
    """What a model gives.

    Attributes:
        values: components and total of all frames [n_frames, 5], eV.
        weights: of the same in the objective, [n_frames, 5].
        of_frames: weights of the frames.
        errors: of labelled forces, or None.
        seen: samples of liquids, or None.
    """

    values: Array
    weights: Array
    of_frames: Array
    errors: Array | None
    seen: Seen | None


class _Work:
    """The iterations of a fit."""

    labelled: LabelledForces | None = None
    experiment: Experiment | None = None

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
        first = point = self._look()
        self._first_errors = 0.0 if first.errors is None else float((first.errors**2).sum())
        objective = [self._objective(point, point.weights)]
        problem = self._problem(point)
        for _ in range(self.settings.iterations):
            taken = self._step(problem, point)
            if taken is None:
                break
            point, last, now = taken
            problem = self._problem(point)
            objective.append(now)
            if last - now < self.settings.converged * max(last, 1e-12):
                break
        covariance = np.diag(problem.covariance())
        which = self.directions.chosen
        ends = [p.errors for p in (first, point) if p.errors is not None]
        return PhysicsFit(
            self.directions.labels,
            self.start[which],
            self.theta.get()[which],
            self.settings.prior_widths * self.theta.prior_width[which],
            np.sqrt(np.maximum(covariance[which], 0.0)),
            [scan.name for scan in self.scans],
            self.out,
            self.wanted,
            first.values,
            point.values,
            point.of_frames,
            objective,
            [float(np.sqrt(np.mean(e**2))) for e in ends],
            [p.seen.predictions for p in (first, point) if p.seen is not None],
        )

    def _look(self) -> _Point:
        values = _with_total(self.energies.energies())
        of_frames = frame_weights(values, self.wanted, self.energies.largest_forces())
        # the published loss squares the error of the total with its weight, not before it
        weights = of_frames[:, None] ** np.array([*[1.0] * len(COMPONENTS), 2.0])
        theta = self.theta
        errors = self.labelled.errors(theta.potential) if self.labelled is not None else None
        seen = self.experiment.look() if self.experiment is not None else None
        return _Point(values, weights, of_frames, errors, seen)

    def _step(self, problem: Problem, point: _Point) -> tuple[_Point, float, float] | None:
        """A step that makes the objective less, at the weights before it."""
        at, last = self.theta.get(), self._objective(point, point.weights)
        for damping in DAMPINGS:
            step = problem.step(damping)
            if point.seen is not None and not reaches(point.seen, step):
                continue
            try:
                self.theta.set(at + step)
                found = self._look()
            except ConfigError:  # numbers that a term refuses
                continue
            now = self._objective(found, point.weights)
            if np.isfinite(now) and now < last:
                return found, last, now
        self.theta.set(at)
        return None

    def _residuals(self, point: _Point, weights: Array) -> Array:
        rows = np.sqrt(weights) * self.scale * (point.values - self.wanted)
        own = rows[~self.out].reshape(-1)
        if self.experiment is not None and point.seen is not None:
            own = np.concatenate([own, self.experiment.residuals(point.seen)])
        return np.asarray(own)

    def _objective(self, point: _Point, weights: Array) -> float:
        offset = (self.theta.get() - self.start) / self.directions.width
        value = float((self._residuals(point, weights) ** 2).sum() + (offset**2).sum())
        if self.settings.weight > 0 and point.errors is not None:
            value += self.settings.weight * float((point.errors**2).sum()) / self._first_errors
        return value

    def _problem(self, point: _Point) -> Problem:
        slopes = self.energies.gradients(self.theta)
        slopes = np.concatenate([slopes, slopes.sum(1, keepdims=True)], axis=1)
        rows = np.sqrt(point.weights)[..., None] * self.scale[:, None] * slopes
        jacobian = rows[~self.out].reshape(-1, slopes.shape[-1])
        if self.experiment is not None and point.seen is not None:
            jacobian = np.concatenate([jacobian, self.experiment.jacobian(point.seen)])
        problem = Problem(
            self._residuals(point, point.weights),
            jacobian,
            self.theta.get() - self.start,
            self.directions.width,
            self.directions.basis,
        )
        if self.settings.weight == 0 or self.labelled is None:
            return problem
        return replace(
            problem,
            errors=point.errors,
            errors_along=self.labelled.along(self.theta, self.directions.basis),
            weight=self.settings.weight / self._first_errors,
        )


def _with_total(values: Array) -> Array:
    return np.concatenate([values, values.sum(1, keepdims=True)], axis=1)
