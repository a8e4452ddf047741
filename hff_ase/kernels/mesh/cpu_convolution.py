"""The product of a charge spectrum with the influence function and its energy and virial, in one
numba pass over the spectrum."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from hff_ase.kernels.jit import jit
from hff_ase.kernels.threads import share

FEWEST = 32  # planes of the spectrum that are worth a second thread


def convolve(spectrum: Tensor, influence: Tensor, metric: Tensor, n3: int, alpha: float) -> Tensor:
    """Multiply the spectrum by the influence function, in place, and sum energy and virial.

    With P = |S|^2 G over the whole spectrum, E = 1/2 sum P, and the virial's second moments are
    sum P (1/k^2 + 1/4 alpha^2) m_a m_b.

    Args:
        spectrum: S, complex128 [n_systems, n1, n2, n3 // 2 + 1], of real data.
        influence: G, float64 of that shape.
        metric: float64 [n_systems, 3, 3], k^2 = m . metric . m for integer wave numbers m.
        n3: length of the last axis of the mesh.
        alpha: splitting parameter.

    Returns:
        float64 [n_systems, 7]: sum P, then the moments 11, 12, 22, 13, 23, 33.
    """
    n_systems, n1 = spectrum.shape[:2]
    planes = torch.empty((n_systems, n1, 7), dtype=torch.float64)
    share(
        _convolve,
        n_systems * n1,
        torch.view_as_real(spectrum).numpy(),
        influence.numpy(),
        metric.contiguous().numpy(),
        n3,
        0.25 / alpha**2,
        planes.numpy(),
        fewest=FEWEST,
    )
    return planes.sum(1)


# The sums along a row may be taken in any order: without that freedom they are not vectorised.
@partial(jit, fastmath={"reassoc", "nsz", "contract"})
def _convolve(
    begin: int,
    end: int,
    spectrum: Any,
    influence: Any,
    metric: Any,
    n3: int,
    damping: float,
    planes: Any,
) -> None:
    n1, n2, half = influence.shape[1:]
    for plane in range(begin, end):
        system, x = plane // n1, plane % n1
        g = metric[system]
        m1 = x if 2 * x < n1 else x - n1
        sums = planes[system, x]
        sums[:] = 0.0
        for y in range(n2):
            m2 = y if 2 * y < n2 else y - n2
            row, factor = spectrum[system, x, y], influence[system, x, y]
            constant = g[0, 0] * m1 * m1 + 2.0 * g[0, 1] * m1 * m2 + g[1, 1] * m2 * m2
            slope = 2.0 * (g[0, 2] * m1 + g[1, 2] * m2)
            total, p0, p1, p2 = 0.0, 0.0, 0.0, 0.0
            for z in range(half):
                re, im, f = row[z, 0], row[z, 1], factor[z]
                twice = 1.0 if z == 0 or 2 * z == n3 else 2.0  # an entry stands for k and -k
                power = twice * f * (re * re + im * im)
                k2 = max(constant + (slope + g[2, 2] * z) * z, 1e-12)
                moment = power * (1.0 / k2 + damping)
                total += power
                p0 += moment
                p1 += moment * z
                p2 += moment * z * z
                row[z, 0], row[z, 1] = re * f, im * f
            sums[0] += total
            sums[1] += p0 * m1 * m1
            sums[2] += p0 * m1 * m2
            sums[3] += p0 * m2 * m2
            sums[4] += p1 * m1
            sums[5] += p1 * m2
            sums[6] += p2
