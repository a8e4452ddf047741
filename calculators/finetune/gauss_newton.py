r"""A step of Gauss-Newton, damped after Levenberg and Marquardt, with a prior and a second loss.

.. math:: \sum_k r_k^2 + \sum_p (\theta_p - \theta_p^0)^2/w_p^2 + \lambda\, |e|^2/|e_0|^2

r are deviations over their uncertainties, w prior widths, e the errors of a second loss (forces)
and e_0 those before. Where parameters are many, targets are few: the minimum without the second
loss lies in the space of the prior-weighted gradients w^2 J, and steps are taken in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FEW = 100  # parameters up to which all directions are taken


@dataclass(frozen=True, eq=False)
class Problem:
    """A least-squares problem at one point.

    Attributes:
        residuals: r [K].
        jacobian: dr/dtheta [K, p].
        offset: theta less the prior mean, [p].
        width: of the prior, [p].
        errors: e [m], or None without a second loss.
        errors_along: de/dc [m, d] along `basis`.
        weight: lambda / |e_0|^2.
        basis: [p, d], directions of steps.
    """

    residuals: Array
    jacobian: Array
    offset: Array
    width: Array
    basis: Array
    errors: Array | None = None
    errors_along: Array | None = None
    weight: float = 0.0

    def step(self, damping: float = 0.0) -> Array:
        """The step in theta [p] of a damping."""
        hessian, gradient = self._normal()
        scale = np.diag(np.maximum(np.diag(hessian), 1e-300))
        return np.asarray(
            -self.basis @ np.linalg.lstsq(hessian + damping * scale, gradient, rcond=None)[0]
        )

    def covariance(self) -> Array:
        """Of theta where the data and the prior leave it, in the space of steps, [p, p]."""
        inverse = np.linalg.pinv(self._normal()[0])
        return np.asarray(self.basis @ inverse @ self.basis.T)

    def _normal(self) -> tuple[Array, Array]:
        along = self.jacobian @ self.basis
        prior = self.basis / self.width[:, None]
        hessian = along.T @ along + prior.T @ prior
        gradient = along.T @ self.residuals + prior.T @ (self.offset / self.width)
        if self.errors is not None and self.errors_along is not None:
            hessian = hessian + self.weight * self.errors_along.T @ self.errors_along
            gradient = gradient + self.weight * self.errors_along.T @ self.errors
        return hessian, gradient


def basis_of(jacobian: Array, width: Array) -> Array:
    """Directions of steps [p, d]: all where they are few, else those of the targets' gradients."""
    p = len(width)
    if p <= FEW:
        return np.diag(width)
    found, *_ = np.linalg.svd((jacobian * width).T, full_matrices=False)
    return np.asarray(found * width[:, None])
