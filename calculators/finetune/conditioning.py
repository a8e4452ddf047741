r"""Which combinations of parameters a set of targets determines, and at what cost, before any run.

With J_kp = d<A_k>/d theta_p w_p / sigma_k (prior widths w, uncertainties sigma) a singular value s
says how many prior widths the targets narrow the direction of its singular vector by: s >> 1 is
determined, s << 1 is left to the prior. The rank is at most the number of targets, so that a
condition number of J^T J says nothing; here it is taken over the informed directions, s > 1, beside
the effective dimension sum s^2/(s^2 + 1).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hff_ase.calculators.finetune.ab_initio import LabelledForces
from hff_ase.calculators.finetune.align import pools_of
from hff_ase.calculators.finetune.calibrate import samples_left
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.pool import Pool
from hff_ase.calculators.finetune.responses import Response, predicted
from hff_ase.calculators.finetune.targets import Target
from hff_ase.calculators.finetune.transfer import least_squares, scatter, without_own_liquid
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.errors import ConfigError
from hff_ase.parameter_vector import ParameterVector

__all__ = ["conditioning"]

Array = NDArray[np.float64]
ALONG = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the step, where effective samples are looked at
LARGEST = 8  # entries of a singular vector that are named


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What targets determine about parameters.

    Attributes:
        parameters: the patterns that were asked for.
        labels: of theta, [p].
        targets: [K].
        jacobian: J [K, p], scaled.
        singular: [r] largest first; singular_error: by blocks of samples.
        vectors: [r, p], right singular vectors.
        dimension, dimension_error: effective.
        condition: of the informed directions; nan with fewer than two.
        step: [p], of Gauss-Newton with the prior.
        gain: chi^2 that the step is expected to gain.
        left: part of the effective samples along the step, at `ALONG`.
        force_change: change of the force error along the whole step, eV/A, and its share per unit
            of chi^2; nan without labelled frames.
        values, errors: of the targets as the model has them, [K].
        left_out: [K], each target after a step fitted to those of all other liquids, to first
            order; nan where there is no other liquid.
        scatter: standard deviation of the step over redrawn samples, over its length.
    """

    parameters: tuple[str, ...]
    labels: list[str]
    targets: list[Target]
    jacobian: Array
    singular: Array
    singular_error: Array
    vectors: Array
    dimension: float
    dimension_error: float
    condition: float
    step: Array
    gain: float
    left: list[float]
    force_change: float
    force_rmse: float
    values: Array
    errors: Array
    left_out: Array
    scatter: float

    @property
    def collateral(self) -> float:
        """Change of the force error per unit of chi^2 gained, eV/A."""
        return self.force_change / self.gain if self.gain > 0 else float("nan")

    def leading(self, direction: int) -> str:
        """The largest entries of a singular vector, in words."""
        vector = self.vectors[direction]
        order = np.argsort(-np.abs(vector))[:LARGEST]
        parts = [f"{vector[k]:+.2f} {self.labels[k]}" for k in order if abs(vector[k]) > 0.1]
        return ", ".join(parts) or "spread over many"

    def as_dict(self) -> dict[str, Any]:
        """As a dict for JSON."""
        return {
            "parameters": list(self.parameters),
            "n_parameters": len(self.labels),
            "targets": [str(target) for target in self.targets],
            "singular_values": self.singular.tolist(),
            "singular_errors": self.singular_error.tolist(),
            "directions": [self.leading(k) for k in range(len(self.singular))],
            "effective_dimension": self.dimension,
            "effective_dimension_error": self.dimension_error,
            "condition_of_informed": self.condition,
            "expected_chi2_gain": self.gain,
            "samples_left": dict(zip(map(str, ALONG), self.left, strict=True)),
            "force_rmse": self.force_rmse,
            "force_rmse_change": self.force_change,
            "force_rmse_change_per_chi2": self.collateral,
            "measured": [target.value for target in self.targets],
            "model": self.values.tolist(),
            "model_errors": self.errors.tolist(),
            "fitted_to_other_liquids": [None if np.isnan(v) else v for v in self.left_out.tolist()],
            "step_scatter": self.scatter,
        }

    def markdown(self) -> str:
        """A table of directions, and the numbers of the whole below."""
        lines = ["direction | singular value | made of", "--- | --- | ---"]
        for k, (value, error) in enumerate(zip(self.singular, self.singular_error, strict=True)):
            lines.append(f"{k + 1} | {value:.3g} +- {error:.2g} | {self.leading(k)}")
        table = "\n".join(f"| {line} |" for line in lines)
        numbers = [
            f"- {len(self.labels)} parameters ({', '.join(self.parameters)}), "
            f"{len(self.targets)} targets",
            f"- effective dimension {self.dimension:.2f} +- {self.dimension_error:.2f}",
            f"- condition number of informed directions (s > 1): {_number(self.condition)}",
            f"- a Gauss-Newton step gains chi^2 of {self.gain:.3g} and leaves "
            f"{100 * self.left[-1]:.0f} % of the effective samples",
        ]
        if np.isfinite(self.force_rmse):
            numbers.append(
                f"- force RMSE {1e3 * self.force_rmse:.3g} meV/A, change along the step "
                f"{1e3 * self.force_change:+.2g} meV/A, per unit of chi^2 "
                f"{1e3 * self.collateral:+.2g} meV/A"
            )
        numbers.append(
            f"- the step scatters by {100 * self.scatter:.0f} % of its length over the samples"
        )
        return f"{table}\n\n" + "\n".join(numbers) + f"\n\n{self._transfer()}\n"

    def _transfer(self) -> str:
        """The targets, with and without the others."""
        lines = ["target | measured | model | fitted to other liquids", "--- | --- | --- | ---"]
        for k, target in enumerate(self.targets):
            other = "-" if np.isnan(self.left_out[k]) else f"{self.left_out[k]:.4g}"
            model = f"{self.values[k]:.4g} +- {self.errors[k]:.1g}"
            lines.append(f"{target} | {target.value:.4g} | {model} | {other}")
        return "\n".join(f"| {line} |" for line in lines)


def conditioning(
    calc: HybridFF,
    ensembles: Sequence[Ensemble],
    targets: Sequence[Target],
    parameters: Sequence[str] = ("physical",),
    *,
    frames: Sequence[Atoms] = (),
    responses: Sequence[Response] = (),
    n_draws: int = 100,
    seed: int = 0,
) -> Conditioning:
    """What targets determine of chosen parameters of a model.

    Args:
        calc: the model that the ensembles were sampled with; left unchanged.
        ensembles: samples of all that targets need.
        targets: all count, those kept out too.
        parameters: names, patterns or groups.
        frames: with forces, for the collateral.
        responses: of transport to the parameters, for targets of it.
        n_draws, seed: of the bootstrap.

    Raises:
        ConfigError: no targets, no samples of one, unknown parameters.
    """
    if not targets:
        raise ConfigError("expected targets for a conditioning report, got none")
    potential = copy.deepcopy(calc.potential)
    theta = ParameterVector(potential, parameters)
    pressure = any(target.quantity == "pressure" for target in targets)
    pools = pools_of(ensembles, [potential] * len(ensembles)) if ensembles else []
    pools = [pool.with_model(potential, theta, pressure) for pool in pools]
    found = [predicted(target, pools, theta, responses, n_draws, seed) for target in targets]
    width = theta.prior_width
    problem = least_squares(found, width)
    jacobian = problem.jacobian * width
    _, singular, vectors = np.linalg.svd(jacobian, full_matrices=False)
    several: list[Array] = [
        np.asarray(np.linalg.svd(least_squares(found, width, d).jacobian * width, compute_uv=False))
        for d in range(n_draws)
    ]
    step = problem.step()
    gain = float((problem.residuals**2).sum())
    gain -= float(((problem.residuals + problem.jacobian @ step) ** 2).sum())
    labelled = LabelledForces(frames, potential) if frames else None
    before = np.nan if labelled is None else labelled.rmse(potential)
    after = np.nan if labelled is None else _after(theta, step, labelled)
    return Conditioning(
        tuple(parameters),
        theta.labels,
        list(targets),
        jacobian,
        singular,
        np.std(several, axis=0, ddof=1),
        vectors,
        _dimension(singular),
        float(np.std([_dimension(one) for one in several], ddof=1)),
        _condition(singular),
        step,
        gain,
        _left(pools, step),
        float(after - before),
        float(before),
        np.array([one.value for one in found]),
        np.array([one.error for one in found]),
        without_own_liquid(found, width),
        scatter(found, width),
    )


def _left(pools: Sequence[Pool], step: Array) -> list[float]:
    return [samples_left(pools, share * step)[0] for share in ALONG]


def _after(theta: ParameterVector, step: Array, labelled: LabelledForces) -> float:
    """The force error along the step, extrapolated from a small part of it."""
    start = theta.get()
    share = min(1.0, 0.1 / max(float(np.max(np.abs(step) / theta.prior_width)), 1e-12))
    base = labelled.errors(theta.potential)
    theta.set(start + share * step)
    moved = (labelled.errors(theta.potential) - base) / share
    theta.set(start)
    return float(np.sqrt(np.mean((base + moved) ** 2)))


def _dimension(singular: Array) -> float:
    return float((singular**2 / (singular**2 + 1.0)).sum())


def _condition(singular: Array) -> float:
    informed = singular[singular > 1.0]
    return float(informed[0] / informed[-1]) if len(informed) > 1 else float("nan")


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "fewer than two of them"
