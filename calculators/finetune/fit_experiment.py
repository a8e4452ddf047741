"""Measured values as part of another fit's objective, by reweighting samples of liquids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hff_ase.calculators.finetune.align import pools_of
from hff_ase.calculators.finetune.calibrate import samples_left
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.pool import Pool
from hff_ase.calculators.finetune.quantities import Prediction, predict
from hff_ase.calculators.finetune.targets import Target
from hff_ase.errors import ConfigError
from hff_ase.parameter_vector import ParameterVector
from hff_ase.potential import HybridPotential

Array = NDArray[np.float64]
TRUST, LEAST = 0.5, 0.1  # as `CalibrateSettings` has them


@dataclass(frozen=True, eq=False)
class Seen:
    """Samples at some parameters.

    Attributes:
        pools: with energies and gradients.
        predictions: of all targets.
    """

    pools: list[Pool]
    predictions: list[Prediction]


class Experiment:
    """Targets with samples of their liquids.

    A deviation counts in units of the target's uncertainty and the statistical error of the model's
    own value before the fit, taken together.

    Args:
        ensembles: samples of all that targets need.
        targets: those kept out are predicted only.
        sampled_with: the model of the samples.
        theta: parameters of the model that is fitted.
        n_draws, seed: of bootstraps.

    Raises:
        ConfigError: no samples of a target.
    """

    def __init__(
        self,
        ensembles: Sequence[Ensemble],
        targets: Sequence[Target],
        sampled_with: HybridPotential,
        theta: ParameterVector,
        n_draws: int = 100,
        seed: int = 0,
    ) -> None:
        if not targets:
            raise ConfigError("expected targets with the samples, got none")
        self.targets, self.theta = list(targets), theta
        self._draws = n_draws, seed
        self._pressure = any(target.quantity == "pressure" for target in targets)
        self._fitted = [k for k, target in enumerate(targets) if not target.kept_out]
        self._pools = pools_of(ensembles, [sampled_with] * len(ensembles))
        self.before = self.look()
        before = [self.before.predictions[k] for k in self._fitted]
        self._sigma = np.array([np.hypot(one.target.uncertainty, one.error) for one in before])

    def look(self) -> Seen:
        """The samples at the parameters as they are now."""
        pools = [
            pool.with_model(self.theta.potential, self.theta, self._pressure)
            for pool in self._pools
        ]
        return Seen(pools, [predict(target, pools, *self._draws) for target in self.targets])

    def residuals(self, seen: Seen) -> Array:
        """Of the fitted targets, [K]."""
        found = [seen.predictions[k] for k in self._fitted]
        return np.array([one.value - one.target.value for one in found]) / self._sigma

    def jacobian(self, seen: Seen) -> Array:
        """Their derivatives in theta, [K, p]."""
        rows = [seen.predictions[k].gradient for k in self._fitted]
        own = np.array([row for row in rows if row is not None]).reshape(-1, len(self.theta))
        return np.asarray(own / self._sigma[:, None])


def reaches(seen: Seen, step: Array) -> bool:
    """Whether a step in theta [p] leaves enough effective samples."""
    ratio, left = samples_left(seen.pools, step)
    return ratio >= TRUST and left >= LEAST
