"""Spreading, interpolation and convolution on a mesh, in Triton, float64.

Charges are added to the mesh by atomics, so results differ in the last bits from run to run. Scalar
arguments of a kernel would be float32: every float comes in a tensor.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# (Triton looks up annotations when it compiles: its functions can only have its own.)

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

ATOMS = 32  # per program; each with LANES points along the last axis side by side
LANES = 8
POINTS = 1024  # of a plane of the spectrum, per program


class TritonStencil:
    """The mesh points around each atom; weights are computed where they are used.

    Args:
        u: float64 [n_atoms, 3], fractional coordinates times the mesh size, any image.
        system: int64 [n_atoms], the mesh of each atom, 0 ... n_systems - 1.
        n_systems, shape: how many meshes of which shape.
        order: of the splines, up to ``LANES``.
    """

    def __init__(
        self, u: Tensor, system: Tensor, n_systems: int, shape: tuple[int, int, int], order: int
    ) -> None:
        self.n_systems, self.shape, self.order = n_systems, shape, order
        self._u, self._system = u.detach().contiguous(), system
        self._grid = (triton.cdiv(u.shape[0], ATOMS),)
        # The kernels leave out the splines' common factor.
        self._scale = float(math.factorial(order - 1)) ** -3

    def spread(self, values: Tensor) -> Tensor:
        """sum_i v_i W_i(m), float64 [n_systems, *shape]; see `hff_ase.kernels.mesh`."""
        mesh = values.new_zeros((self.n_systems, *self.shape))
        scaled = (values.detach() * self._scale).contiguous()
        _spread[self._grid](
            scaled,
            self._u,
            self._system,
            mesh,
            self._u.shape[0],
            *self.shape,
            ORDER=self.order,
            SLOPES=values.ndim == 2,
            ATOMS=ATOMS,
            LANES=LANES,
        )
        return mesh

    def interpolate(self, mesh: Tensor, slopes: bool) -> Tensor:
        """sum_m mesh(m) W_i(m), float64 [n_atoms, 1], and with ``slopes`` d/du, [n_atoms, 4]."""
        values = mesh.new_empty((self._u.shape[0], 4 if slopes else 1))
        _interpolate[self._grid](
            mesh.detach().contiguous(),
            self._u,
            self._system,
            values,
            self._u.shape[0],
            *self.shape,
            ORDER=self.order,
            SLOPES=slopes,
            ATOMS=ATOMS,
            LANES=LANES,
        )
        return values.mul_(self._scale)


def convolve(
    spectrum: Tensor,
    damping: tuple[Tensor, Tensor, Tensor],
    metric: Tensor,
    volume: Tensor,
    n3: int,
    alpha: float,
) -> Tensor:
    """Multiply the spectrum by the influence function, in place, and sum energy and virial.

    As `hff_ase.kernels.mesh.cpu_convolution.convolve`, with the influence function computed on the
    way: nothing has to be kept between steps, whether the cell moves or not.

    Args:
        damping: the splines' part along each axis, float64 [size].
        volume: float64 [n_systems].
    """
    n_systems, n1, n2, half = spectrum.shape
    factor = 4.0 * math.pi / volume
    decay = torch.full_like(factor, 0.25 / alpha**2)
    cells = torch.cat([metric.flatten(1), torch.stack([factor, decay], 1)], 1)
    blocks = triton.cdiv(n2 * half, POINTS)
    sums = factor.new_empty((n_systems, n1 * blocks, 7))
    planes = (n_systems * n1, blocks)
    _convolve[planes](
        torch.view_as_real(spectrum), *damping, cells, sums, n1, n2, n3, half, POINTS=POINTS
    )
    return sums.sum(1)


@triton.jit
def _spline(y, ORDER: tl.constexpr):
    """(n - 1)! M_n(y) = sum_k (-1)^k C(n, k) (y - k)_+^(n - 1), from the nearer end; n up to 6."""
    y = tl.minimum(y, ORDER - y)
    t0, t1, t2 = tl.maximum(y, 0.0), tl.maximum(y - 1, 0.0), tl.maximum(y - 2, 0.0)
    p0, p1, p2 = t0, t1, t2
    for _ in tl.static_range(ORDER - 2):
        p0, p1, p2 = p0 * t0, p1 * t1, p2 * t2
    return p0 - ORDER * p1 + (ORDER * (ORDER - 1) // 2) * p2


@triton.jit
def _slope(y, ORDER: tl.constexpr):
    """(n - 1)! M'_n(y)."""
    return (ORDER - 1) * (_spline(y, ORDER - 1) - _spline(y - 1, ORDER - 1))


@triton.jit
def _wrapped(point, size):
    """Into 0 ... size - 1, for either sign of the remainder of a negative number."""
    return (point % size + size) % size


@triton.jit
def _spread(
    values, u, system, mesh, n_atoms, n1, n2, n3,
    ORDER: tl.constexpr, SLOPES: tl.constexpr, ATOMS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * ATOMS + tl.arange(0, ATOMS)
    real = i < n_atoms
    ux = tl.load(u + 3 * i, mask=real, other=0.0)
    uy = tl.load(u + 3 * i + 1, mask=real, other=0.0)
    uz = tl.load(u + 3 * i + 2, mask=real, other=0.0)
    s = tl.load(system + i, mask=real, other=0)
    cx, cy, cz = tl.floor(ux), tl.floor(uy), tl.floor(uz)
    lane = tl.arange(0, LANES)[None, :]
    z = _wrapped(cz.to(tl.int64)[:, None] - lane, n3)
    yz = (uz - cz)[:, None] + lane
    wz, used = _spline(yz, ORDER), real[:, None] & (lane < ORDER)
    if SLOPES:
        v = tl.load(values + 4 * i, mask=real, other=0.0)
        vx = tl.load(values + 4 * i + 1, mask=real, other=0.0)
        vy = tl.load(values + 4 * i + 2, mask=real, other=0.0)
        wz_slope = tl.load(values + 4 * i + 3, mask=real, other=0.0)[:, None] * _slope(yz, ORDER)
    else:
        v = tl.load(values + i, mask=real, other=0.0)
    for a in tl.static_range(ORDER):
        wx = _spline(ux - cx + a, ORDER)
        plane = s * n1 + _wrapped(cx.to(tl.int64) - a, n1)
        for b in tl.static_range(ORDER):
            wy = _spline(uy - cy + b, ORDER)
            row = (plane * n2 + _wrapped(cy.to(tl.int64) - b, n2)) * n3
            along = v * wx * wy
            if SLOPES:
                along += vx * _slope(ux - cx + a, ORDER) * wy
                along += vy * wx * _slope(uy - cy + b, ORDER)
                block = along[:, None] * wz + (wx * wy)[:, None] * wz_slope
            else:
                block = along[:, None] * wz
            tl.atomic_add(mesh + row[:, None] + z, block, mask=used, sem="relaxed")


@triton.jit
def _interpolate(
    mesh, u, system, values, n_atoms, n1, n2, n3,
    ORDER: tl.constexpr, SLOPES: tl.constexpr, ATOMS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * ATOMS + tl.arange(0, ATOMS)
    real = i < n_atoms
    ux = tl.load(u + 3 * i, mask=real, other=0.0)
    uy = tl.load(u + 3 * i + 1, mask=real, other=0.0)
    uz = tl.load(u + 3 * i + 2, mask=real, other=0.0)
    s = tl.load(system + i, mask=real, other=0)
    cx, cy, cz = tl.floor(ux), tl.floor(uy), tl.floor(uz)
    lane = tl.arange(0, LANES)[None, :]
    z = _wrapped(cz.to(tl.int64)[:, None] - lane, n3)
    yz = (uz - cz)[:, None] + lane
    wz, used = _spline(yz, ORDER), real[:, None] & (lane < ORDER)
    line = tl.zeros((ATOMS, LANES), tl.float64)  # mesh times W_x W_y, still along z
    line_x, line_y = line, line  # times dW_x W_y, times W_x dW_y
    for a in tl.static_range(ORDER):
        wx = _spline(ux - cx + a, ORDER)
        plane = s * n1 + _wrapped(cx.to(tl.int64) - a, n1)
        for b in tl.static_range(ORDER):
            wy = _spline(uy - cy + b, ORDER)
            row = (plane * n2 + _wrapped(cy.to(tl.int64) - b, n2)) * n3
            m = tl.load(mesh + row[:, None] + z, mask=used, other=0.0)
            line += m * (wx * wy)[:, None]
            if SLOPES:
                line_x += m * (_slope(ux - cx + a, ORDER) * wy)[:, None]
                line_y += m * (wx * _slope(uy - cy + b, ORDER))[:, None]
    if SLOPES:
        tl.store(values + 4 * i, tl.sum(line * wz, 1), mask=real)
        tl.store(values + 4 * i + 1, tl.sum(line_x * wz, 1), mask=real)
        tl.store(values + 4 * i + 2, tl.sum(line_y * wz, 1), mask=real)
        tl.store(values + 4 * i + 3, tl.sum(line * _slope(yz, ORDER), 1), mask=real)
    else:
        tl.store(values + i, tl.sum(line * wz, 1), mask=real)


@triton.jit
def _convolve(
    spectrum, damping1, damping2, damping3, cells, sums, n1, n2, n3, half, POINTS: tl.constexpr
):
    plane, block = tl.program_id(0), tl.program_id(1)
    x = plane % n1
    point = block * POINTS + tl.arange(0, POINTS)
    real = point < n2 * half
    y, z = point // half, point % half
    cell = cells + 11 * (plane // n1)
    g11, g12, g13 = tl.load(cell), tl.load(cell + 1), tl.load(cell + 2)
    g22, g23, g33 = tl.load(cell + 4), tl.load(cell + 5), tl.load(cell + 8)
    factor, decay = tl.load(cell + 9), tl.load(cell + 10)
    m1 = tl.where(2 * x < n1, x, x - n1).to(tl.float64)
    m2 = tl.where(2 * y < n2, y, y - n2).to(tl.float64)
    m3 = z.to(tl.float64)
    k2 = g11 * m1 * m1 + g22 * m2 * m2 + 2 * g12 * m1 * m2
    k2 = tl.maximum(k2 + (2 * (g13 * m1 + g23 * m2) + g33 * m3) * m3, 1e-12)
    splines = tl.load(damping1 + x) * tl.load(damping2 + y, mask=real, other=0.0)
    splines *= tl.load(damping3 + z, mask=real, other=0.0)
    splines = tl.where((x + y + z) == 0, 0.0, splines)
    f = factor * tl.exp(-k2 * decay) / k2 * splines
    at = spectrum + 2 * (plane.to(tl.int64) * n2 * half + point)
    re, im = tl.load(at, mask=real, other=0.0), tl.load(at + 1, mask=real, other=0.0)
    tl.store(at, re * f, mask=real)
    tl.store(at + 1, im * f, mask=real)
    twice = tl.where((z == 0) | (2 * z == n3), 1.0, 2.0)  # an entry stands for k and -k
    power = twice * f * (re * re + im * im)
    moment = power * (1 / k2 + decay)
    out = sums + 7 * (plane * tl.num_programs(1) + block)
    tl.store(out, tl.sum(power))
    tl.store(out + 1, tl.sum(moment * m1 * m1))
    tl.store(out + 2, tl.sum(moment * m1 * m2))
    tl.store(out + 3, tl.sum(moment * m2 * m2))
    tl.store(out + 4, tl.sum(moment * m1 * m3))
    tl.store(out + 5, tl.sum(moment * m2 * m3))
    tl.store(out + 6, tl.sum(moment * m3 * m3))
