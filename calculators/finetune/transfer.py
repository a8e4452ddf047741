"""What a step of calibration does to targets that it was not fitted to, and how sure it is itself.

Both to first order in the step: enough to compare sets of parameters on the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hff_ase.calculators.finetune.gauss_newton import Problem, basis_of
from hff_ase.calculators.finetune.quantities import Prediction

Array = NDArray[np.float64]


def least_squares(found: Sequence[Prediction], width: Array, draw: int | None = None) -> Problem:
    """The problem of a step from the model's values to the targets'.

    Args:
        found: predictions with gradients.
        width: of the prior about the present parameters, [p].
        draw: of the bootstrap; None for all samples.
    """
    values, rows = [], []
    for one in found:
        if one.gradient is None or one.gradient_draws is None or one.draws is None:
            raise ValueError("expected predictions with gradients")
        values.append(one.value if draw is None else one.draws[draw])
        rows.append(one.gradient if draw is None else one.gradient_draws[draw])
    sigma = np.array([np.hypot(one.target.uncertainty, one.error) for one in found])
    residuals = (np.array(values) - [one.target.value for one in found]) / sigma
    jacobian = np.stack(rows) / sigma[:, None]
    return Problem(residuals, jacobian, np.zeros(len(width)), width, basis_of(jacobian, width))


def without_own_liquid(found: Sequence[Prediction], width: Array) -> Array:
    """Targets [K] after a step fitted to those of all other liquids; nan where there are none."""
    liquids = [one.target.liquid.casefold() for one in found]
    after = np.full(len(found), np.nan)
    for liquid in set(liquids):
        others = [one for one, name in zip(found, liquids, strict=True) if name != liquid]
        if not others:
            continue
        step = least_squares(others, width).step()
        for k, one in enumerate(found):
            if liquids[k] == liquid and one.gradient is not None:
                after[k] = one.value + float(one.gradient @ step)
    return after


def scatter(found: Sequence[Prediction], width: Array) -> float:
    """How much a step depends on the samples: its standard deviation over the bootstrap, over its
    mean, both as lengths in prior widths."""
    n_draws = min(0 if one.draws is None else len(one.draws) for one in found)
    steps = [least_squares(found, width, draw).step() / width for draw in range(n_draws)]
    mean = np.mean(steps, axis=0)
    spread = np.sqrt(np.mean([float(((step - mean) ** 2).sum()) for step in steps]))
    return float(spread / np.linalg.norm(mean))
