"""Spreading, interpolation and convolution on a mesh, in numba.

Atoms are sorted by the first mesh plane that they touch. A plane then collects its charges from a
few runs of that list, in an order that does not depend on threads: planes are summed side by side
without atomics, and the result is the same to the last bit for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hff_ase.kernels.jit import jit
from hff_ase.kernels.mesh import MAX_ORDER
from hff_ase.kernels.mesh.cpu_curvature import interpolate_curvatures, spline_bends
from hff_ase.kernels.threads import FEWEST, share

# Weights are padded with zeros to this many points, so that loops have a constant length and one
# compilation serves all orders. Against a variable length that saves 20 to 30 % for order 6, the
# default's, and costs a few per cent for order 5.
WIDTH = MAX_ORDER


class NumbaStencil:
    """The mesh points around each atom and their weights.

    Args:
        u: float64 [n_atoms, 3], fractional coordinates times the mesh size, any image.
        system: int64 [n_atoms], the mesh of each atom, 0 ... n_systems - 1.
        n_systems, shape: how many meshes of which shape, no axis shorter than ``WIDTH``.
        order: of the splines, up to ``WIDTH``.
    """

    def __init__(
        self, u: Tensor, system: Tensor, n_systems: int, shape: tuple[int, int, int], order: int
    ) -> None:
        n_atoms = u.shape[0]
        self.n_systems, self.shape, self.order = n_systems, shape, order
        self._first = np.zeros(n_systems * shape[0] + 1, dtype=np.int64)
        self._atom = np.empty(n_atoms, dtype=np.int64)
        self._low = np.empty((n_atoms, 3), dtype=np.int64)
        self._weights = np.zeros((n_atoms, 6, WIDTH))
        points = self._points = u.detach().contiguous().numpy()
        _sort(points, system.numpy(), np.array(shape), order, self._first, self._atom)
        size = np.array(shape)
        share(_fill, n_atoms, points, size, order, self._atom, self._low, self._weights)

    def spread(self, values: Tensor) -> Tensor:
        """sum_i v_i W_i(m), float64 [n_systems, *shape].

        Args:
            values: float64 [n_atoms] or, for sum_i v_i0 W_i + (v_i1, v_i2, v_i3) . dW_i/du,
                [n_atoms, 4].
        """
        mesh = torch.empty((self.n_systems, *self.shape), dtype=torch.float64)
        kernel = _spread_values if values.ndim == 1 else _spread_slopes
        self._share(
            kernel,
            values.detach().contiguous().numpy(),
            self._first,
            self._atom,
            self._low,
            self._weights,
            mesh.numpy(),
        )
        return mesh

    def interpolate(self, mesh: Tensor, slopes: bool) -> Tensor:
        """sum_m mesh(m) W_i(m), float64 [n_atoms, 1], and with ``slopes`` d/du, [n_atoms, 4]."""
        values = torch.empty((len(self._atom), 4 if slopes else 1), dtype=torch.float64)
        kernel = _interpolate_slopes if slopes else _interpolate_values
        self._gather(kernel, mesh, values)
        return values

    def curvatures(self, mesh: Tensor) -> Tensor:
        """sum_m mesh(m) W_i(m), its slopes, and second derivatives xx, yy, zz, xy, xz, yz in u,
        float64 [n_atoms, 10]."""
        values = torch.empty((len(self._atom), 10), dtype=torch.float64)
        bend = np.zeros((len(self._atom), 3, WIDTH))
        share(spline_bends, len(self._atom), self._points, self.order, self._atom, bend)
        self._gather(interpolate_curvatures, mesh, values, bend)
        return values

    def _gather(
        self, kernel: Callable[..., None], mesh: Tensor, values: Tensor, *more: Any
    ) -> None:
        planes = mesh.detach().contiguous().numpy().reshape(-1, *self.shape[1:])
        atoms = (self._first, self._atom, self._low, self._weights)
        self._share(kernel, planes, self.shape[0], *atoms, *more, values.numpy())

    def _share(self, kernel: Callable[..., None], *args: Any) -> None:
        """Planes of the meshes over threads, where there are enough atoms."""
        n_planes = self.n_systems * self.shape[0]
        enough = len(self._atom) >= FEWEST
        share(kernel, n_planes, *args, fewest=1 if enough else n_planes + 1)


@jit
def _sort(u: Any, system: Any, shape: Any, order: int, first: Any, atom: Any) -> None:
    """Atoms by mesh and first plane: those of row r are atom[first[r]:first[r + 1]]."""
    n_atoms = len(u)
    row = np.empty(n_atoms, dtype=np.int64)
    for i in range(n_atoms):
        low = (int(np.floor(u[i, 0])) - order + 1) % shape[0]
        row[i] = system[i] * shape[0] + low
        first[row[i] + 1] += 1
    for r in range(1, len(first)):
        first[r] += first[r - 1]
    cursor = first[:-1].copy()
    for i in range(n_atoms):
        atom[cursor[row[i]]] = i
        cursor[row[i]] += 1


@jit
def _fill(
    begin: int, end: int, u: Any, shape: Any, order: int, atom: Any, low: Any, weights: Any
) -> None:
    """First point along each axis, and there and at the next ones M (rows 0-2) and M' (3-5).

    M_n(y) = [y M_{n-1}(y) + (n - y) M_{n-1}(y - 1)] / (n - 1), M'_n(y) = M_{n-1}(y) -
    M_{n-1}(y - 1) (Essmann et al., J. Chem. Phys. 103, 8577 (1995), eq. 4.1).
    """
    for slot in range(begin, end):
        for axis in range(3):
            position = u[atom[slot], axis]
            corner = np.floor(position)
            x = position - corner
            low[slot, axis] = (int(corner) - order + 1) % shape[axis]
            # The point `order - 1 - k` above the lowest has the weight M(x + k).
            m, slope = weights[slot, axis], weights[slot, 3 + axis]
            last = order - 1
            m[last] = 1.0
            for n in range(2, order + 1):
                if n == order:
                    slope[last] = m[last]
                    for k in range(1, order):
                        slope[last - k] = m[last - k] - m[last - k + 1]
                for k in range(n - 1, 0, -1):
                    y = x + k
                    m[last - k] = (y * m[last - k] + (n - y) * m[last - k + 1]) / (n - 1)
                m[last] = x * m[last] / (n - 1)


@jit
def _spread_values(
    begin: int, end: int, values: Any, first: Any, atom: Any, low: Any, weights: Any, mesh: Any
) -> None:
    n1, n2, n3 = mesh.shape[1:]
    for plane in range(begin, end):
        system, x = plane // n1, plane % n1
        target = mesh[system, x]
        target[:] = 0.0
        for a in range(WIDTH):
            row = system * n1 + (x - a) % n1
            for slot in range(first[row], first[row + 1]):
                w = weights[slot]
                at_x = values[atom[slot]] * w[0, a]
                z = low[slot, 2]
                for b in range(WIDTH):
                    y = low[slot, 1] + b
                    y = y - n2 if y >= n2 else y
                    factor = at_x * w[1, b]
                    if z + WIDTH <= n3:
                        for c in range(WIDTH):
                            target[y, z + c] += factor * w[2, c]
                    else:
                        for c in range(WIDTH):
                            target[y, (z + c) % n3] += factor * w[2, c]


@jit
def _spread_slopes(
    begin: int, end: int, values: Any, first: Any, atom: Any, low: Any, weights: Any, mesh: Any
) -> None:
    n1, n2, n3 = mesh.shape[1:]
    for plane in range(begin, end):
        system, x = plane // n1, plane % n1
        target = mesh[system, x]
        target[:] = 0.0
        for a in range(WIDTH):
            row = system * n1 + (x - a) % n1
            for slot in range(first[row], first[row + 1]):
                w, v = weights[slot], values[atom[slot]]
                at_x = v[0] * w[0, a] + v[1] * w[3, a]
                along_y, along_z = v[2] * w[0, a], v[3] * w[0, a]
                for b in range(WIDTH):
                    y = (low[slot, 1] + b) % n2
                    factor = at_x * w[1, b] + along_y * w[4, b]
                    slope = along_z * w[1, b]
                    for c in range(WIDTH):
                        z = (low[slot, 2] + c) % n3
                        target[y, z] += factor * w[2, c] + slope * w[5, c]


@jit
def _interpolate_values(
    begin: int,
    end: int,
    mesh: Any,
    n1: int,
    first: Any,
    atom: Any,
    low: Any,
    weights: Any,
    values: Any,
) -> None:
    n2, n3 = mesh.shape[1:]
    for row in range(begin, end):
        plane = row - row % n1  # the first of this system
        for slot in range(first[row], first[row + 1]):
            w, z = weights[slot], low[slot, 2]
            total = 0.0
            for a in range(WIDTH):
                x = plane + (low[slot, 0] + a) % n1
                for b in range(WIDTH):
                    y = low[slot, 1] + b
                    y = y - n2 if y >= n2 else y
                    line = 0.0
                    if z + WIDTH <= n3:
                        for c in range(WIDTH):
                            line += mesh[x, y, z + c] * w[2, c]
                    else:
                        for c in range(WIDTH):
                            line += mesh[x, y, (z + c) % n3] * w[2, c]
                    total += line * w[0, a] * w[1, b]
            values[atom[slot], 0] = total


@jit
def _interpolate_slopes(
    begin: int,
    end: int,
    mesh: Any,
    n1: int,
    first: Any,
    atom: Any,
    low: Any,
    weights: Any,
    values: Any,
) -> None:
    n2, n3 = mesh.shape[1:]
    for row in range(begin, end):
        plane = row - row % n1
        sums = np.zeros((3, WIDTH))  # mesh times W_x W_y, dW_x W_y and W_x dW_y, still along z
        for slot in range(first[row], first[row + 1]):
            w, z = weights[slot], low[slot, 2]
            sums[:] = 0.0
            for a in range(WIDTH):
                x = plane + (low[slot, 0] + a) % n1
                for b in range(WIDTH):
                    y = low[slot, 1] + b
                    y = y - n2 if y >= n2 else y
                    f0, f1, f2 = w[0, a] * w[1, b], w[3, a] * w[1, b], w[0, a] * w[4, b]
                    if z + WIDTH <= n3:
                        for c in range(WIDTH):
                            m = mesh[x, y, z + c]
                            sums[0, c] += m * f0
                            sums[1, c] += m * f1
                            sums[2, c] += m * f2
                    else:
                        for c in range(WIDTH):
                            m = mesh[x, y, (z + c) % n3]
                            sums[0, c] += m * f0
                            sums[1, c] += m * f1
                            sums[2, c] += m * f2
            total, d1, d2, d3 = 0.0, 0.0, 0.0, 0.0
            for c in range(WIDTH):
                total += sums[0, c] * w[2, c]
                d1 += sums[1, c] * w[2, c]
                d2 += sums[2, c] * w[2, c]
                d3 += sums[0, c] * w[5, c]
            out = values[atom[slot]]
            out[0], out[1], out[2], out[3] = total, d1, d2, d3
