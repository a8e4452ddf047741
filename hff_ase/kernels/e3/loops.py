"""Compiled loops of E3Net's edge sum.

out[i, m3] += sum over terms (m1, p, m3) of factor[e, term] weight[e, p] x[j, m1], per channel, for
the edges e = (i, j). The sum is linear in x, weight and factor, so its gradient and the gradient of
that need nothing but the same sums with one or two factors exchanged. A row of channels is one
value in registers; no array of edges, rows and channels is ever written.

Work is cut into pieces of whole receivers; what is summed over senders is kept per piece, so that
results do not depend on which thread did what.

Arrays are two-dimensional, [..., channels], with their leading axes merged: features have n_in rows
per atom, the result n_out, weights n_paths per edge.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from hff_ase.kernels.get.simd import load, store, total, zeros
from hff_ase.kernels.jit import jit


@lru_cache(maxsize=32)
def make_forward(channels: int) -> Any:
    """Kernel: out from x, weight, factor."""

    def forward(  # type: ignore[no-untyped-def]
        first, last, bounds, row, j, n_in, n_out, n_paths, x, weight, factor,
        row_in, path, row_out, start, out,
    ):  # fmt: skip
        for piece in range(first, last):
            for i in range(bounds[piece], bounds[piece + 1]):
                for e in range(row[i], row[i + 1]):
                    sender = j[e] * n_in
                    for group in range(len(path)):
                        t = zeros(x, channels)
                        for k in range(start[group], start[group + 1]):
                            t += factor[e, k] * load(x, sender + row_in[k], 0, channels)
                        here = i * n_out + row_out[group]
                        w = load(weight, e * n_paths + path[group], 0, channels)
                        store(out, here, 0, load(out, here, 0, channels) + w * t)

    return jit(forward)


@lru_cache(maxsize=32)
def make_backward(channels: int) -> Any:
    """Kernel: gradients of sum(g out) in x, weight and factor."""

    def backward(  # type: ignore[no-untyped-def]
        first, last, bounds, row, j, n_in, n_out, n_paths, g, x, weight, factor,
        row_in, path, row_out, start, d_x, d_weight, d_factor,
    ):  # fmt: skip
        n_atoms = len(row) - 1
        for piece in range(first, last):
            for i in range(bounds[piece], bounds[piece + 1]):
                for e in range(row[i], row[i + 1]):
                    sender, sent = j[e] * n_in, (piece * n_atoms + j[e]) * n_in
                    before = -1
                    for group in range(len(path)):
                        p = e * n_paths + path[group]
                        slope = load(g, i * n_out + row_out[group], 0, channels)
                        q = load(weight, p, 0, channels) * slope
                        t = zeros(x, channels)
                        for k in range(start[group], start[group + 1]):
                            f, m1 = factor[e, k], row_in[k]
                            feature = load(x, sender + m1, 0, channels)
                            t += f * feature
                            d_factor[e, k] = total(q * feature)
                            there = sent + m1
                            store(d_x, there, 0, load(d_x, there, 0, channels) + f * q)
                        if p == before:  # groups of one path follow one another
                            store(d_weight, p, 0, load(d_weight, p, 0, channels) + slope * t)
                        else:
                            store(d_weight, p, 0, slope * t)
                        before = p

    return jit(backward)


@lru_cache(maxsize=32)
def make_second(channels: int) -> Any:
    """Kernel: gradients, in g, x, weight and factor, of sum(h_x d_x) + sum(h_weight d_weight) +
    sum(h_factor d_factor), with the gradients d of `make_backward`."""

    def second(  # type: ignore[no-untyped-def]
        first, last, bounds, row, j, n_in, n_out, n_paths, g, x, weight, factor,
        h_x, h_weight, h_factor, row_in, path, row_out, start, d_g, d_x, d_weight, d_factor,
    ):  # fmt: skip
        n_atoms = len(row) - 1
        for piece in range(first, last):
            for i in range(bounds[piece], bounds[piece + 1]):
                for e in range(row[i], row[i + 1]):
                    sender, sent = j[e] * n_in, (piece * n_atoms + j[e]) * n_in
                    before = -1
                    for group in range(len(path)):
                        p, here = e * n_paths + path[group], i * n_out + row_out[group]
                        slope = load(g, here, 0, channels)
                        w = load(weight, p, 0, channels)
                        h_w = load(h_weight, p, 0, channels)
                        q, r = w * slope, h_w * slope
                        t, u = zeros(x, channels), zeros(x, channels)
                        for k in range(start[group], start[group + 1]):
                            f, h, m1 = factor[e, k], h_factor[e, k], row_in[k]
                            feature = load(x, sender + m1, 0, channels)
                            change = load(h_x, sender + m1, 0, channels)
                            t += f * feature
                            u += f * change + h * feature
                            d_factor[e, k] = total(q * change + r * feature)
                            there = sent + m1
                            more = f * r + h * q
                            store(d_x, there, 0, load(d_x, there, 0, channels) + more)
                        if p == before:  # groups of one path follow one another
                            store(d_weight, p, 0, load(d_weight, p, 0, channels) + slope * u)
                        else:
                            store(d_weight, p, 0, slope * u)
                        before = p
                        store(d_g, here, 0, load(d_g, here, 0, channels) + w * u + h_w * t)

    return jit(second)
