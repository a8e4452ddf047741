r"""Which change of its pressure a liquid needs for its measured density.

A model whose pressure is higher by p at all volumes has the energy U - p V: its averages follow
from the samples with weights exp(beta p V). p is solved for, so that the mean density is the
measured one; to first order p = -ln(rho_measured/rho)/kappa with the compressibility kappa of the
model itself, kappa = var(V)/(kT <V>). That is taken where the samples do not reach the measured
density.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import units
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp

from hff_ase.calculators.finetune import estimators, mbar
from hff_ase.calculators.finetune.pool import Pool
from hff_ase.calculators.finetune.quantities import find
from hff_ase.calculators.finetune.targets import Target
from hff_ase.errors import ConfigError
from hff_ase.units import BAR, GRAM_PER_CM3

Array = NDArray[np.float64]
MOST = 10_000.0  # bar
ENOUGH = 0.1  # of the samples must be left by the weights
N_DRAWS = 200


@dataclass(frozen=True)
class PressureChange:
    """What a liquid needs.

    Attributes:
        target: the density.
        density, density_error: of the model, g/cm^3.
        compressibility: of the model, 1/GPa.
        change, error: of the pressure, bar; the error is that of the model's density and
            compressibility by blocks.
        n_eff, n_samples: in the state with that pressure.
        exact: whether the change was solved for, not extrapolated.
    """

    target: Target
    density: float
    density_error: float
    compressibility: float
    change: float
    error: float
    n_eff: float
    n_samples: int
    exact: bool

    def as_dict(self) -> dict[str, Any]:
        """As a dict for JSON."""
        own = {name: value for name, value in vars(self).items() if name != "target"}
        return {"liquid": self.target.liquid, "temperature": self.target.temperature,
                "target": self.target.value, **own}  # fmt: skip


def pressure_changes(pools: Sequence[Pool], targets: Sequence[Target]) -> list[PressureChange]:
    """The change for each density.

    Args:
        pools: looked at with the model.
        targets: densities.

    Raises:
        ConfigError: another quantity, or no samples of a liquid.
    """
    for target in targets:
        if target.quantity != "density":
            raise ConfigError(f"expected densities to align to, got a target for {target}")
    return [_change(find(target, pools), target) for target in targets]


def _change(pool: Pool, target: Target) -> PressureChange:
    ensemble = pool.ensemble
    density = ensemble.mass / ensemble.volumes / GRAM_PER_CM3
    beta = 1.0 / (units.kB * target.temperature)
    weight = pool.weights(target.temperature, target.pressure)
    found = _solve(density, ensemble.volumes, weight, beta, target.value)
    label = estimators.blocks(ensemble.replica)

    def again(times: Array) -> Array:
        w = estimators.counted(weight, times)
        change = _solve(density, ensemble.volumes, w, beta, target.value)[0]
        return np.array([change, w @ density])

    spread = estimators.bootstrap(label, again, N_DRAWS).std(axis=0, ddof=1)
    return PressureChange(
        target,
        float(weight @ density),
        float(spread[1]),
        _compressibility(ensemble.volumes, weight, beta) * units.GPa,
        found[0],
        float(spread[0]),
        mbar.effective_samples(_shifted(ensemble.volumes, weight, beta, found[0])),
        len(ensemble),
        found[1],
    )


def _solve(
    density: Array, volumes: Array, weight: Array, beta: float, wanted: float
) -> tuple[float, bool]:
    """The change in bar, and whether the samples reach it."""

    def above(bar: float) -> float:
        return float(_shifted(volumes, weight, beta, bar) @ density) - wanted

    if above(-MOST) * above(MOST) < 0:
        bar = float(brentq(above, -MOST, MOST, xtol=1e-3))
        n_eff = mbar.effective_samples(_shifted(volumes, weight, beta, bar))
        if n_eff >= ENOUGH * mbar.effective_samples(weight):
            return bar, True
    kappa = _compressibility(volumes, weight, beta)
    return float(-np.log(wanted / (weight @ density)) / kappa / BAR), False


def _shifted(volumes: Array, weight: Array, beta: float, bar: float) -> Array:
    """Weights of the state in which the pressure of the model is higher by so much."""
    with np.errstate(divide="ignore"):
        logs = np.log(weight) + beta * bar * BAR * (volumes - volumes.mean())
    return np.asarray(np.exp(logs - logsumexp(logs)))


def _compressibility(volumes: Array, weight: Array, beta: float) -> float:
    """Angstrom^3/eV."""
    mean = float(weight @ volumes)
    return float(beta * (weight @ (volumes - mean) ** 2) / mean)
