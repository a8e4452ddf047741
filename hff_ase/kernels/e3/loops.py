"""Compiled loops of E3Net's edge sum.

out[i, m3] += sum over terms (m1, p, m3) of factor[e, term] weight[e, p] x[j, m1], per channel, for
the edges e = (i, j). The sum is linear in x, weight and factor, so its gradient and the gradient of
that need only the same sums with one or two factors exchanged. A row of channels is one
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


# With the weights of an edge from a table, [n_intervals n_paths 4, channels]: rows c0, c1, c2, c3
# of the polynomial in t of path p in interval `knot` from row 4 (knot n_paths + p) on. No array of
# edges and channels is left.


@lru_cache(maxsize=32)
def make_tabulated(channels: int) -> Any:
    """Kernel: out from x, table, factor."""

    def forward(  # type: ignore[no-untyped-def]
        first, last, bounds, row, j, knot, n_in, n_out, n_paths, between, x, table, factor,
        row_in, path, row_out, start, out,
    ):  # fmt: skip
        for piece in range(first, last):
            for i in range(bounds[piece], bounds[piece + 1]):
                for e in range(row[i], row[i + 1]):
                    sender, t, before = j[e] * n_in, between[e, 0], -1
                    w = zeros(x, channels)
                    for group in range(len(path)):
                        if path[group] != before:  # groups of one path follow one another
                            before = path[group]
                            at = 4 * (knot[e] * n_paths + before)
                            w = load(table, at + 3, 0, channels) * t
                            w = (w + load(table, at + 2, 0, channels)) * t
                            w = (w + load(table, at + 1, 0, channels)) * t
                            w = w + load(table, at, 0, channels)
                        s = zeros(x, channels)
                        for k in range(start[group], start[group + 1]):
                            s += factor[e, k] * load(x, sender + row_in[k], 0, channels)
                        here = i * n_out + row_out[group]
                        store(out, here, 0, load(out, here, 0, channels) + w * s)

    return jit(forward)


@lru_cache(maxsize=32)
def make_tabulated_places(channels: int) -> Any:
    """Kernel: gradients of sum(g out) in x, factor and the place t between knots."""

    def backward(  # type: ignore[no-untyped-def]
        first, last, bounds, row, j, knot, n_in, n_out, n_paths, between, g, x, table, factor,
        row_in, path, row_out, start, d_x, d_factor, d_between,
    ):  # fmt: skip
        n_atoms = len(row) - 1
        for piece in range(first, last):
            for i in range(bounds[piece], bounds[piece + 1]):
                for e in range(row[i], row[i + 1]):
                    sender, sent = j[e] * n_in, (piece * n_atoms + j[e]) * n_in
                    t, before = between[e, 0], -1
                    w, rise, to_t = zeros(x, channels), zeros(x, channels), zeros(x, channels)
                    for group in range(len(path)):
                        if path[group] != before:
                            before = path[group]
                            at = 4 * (knot[e] * n_paths + before)
                            c1 = load(table, at + 1, 0, channels)
                            c2 = load(table, at + 2, 0, channels)
                            c3 = load(table, at + 3, 0, channels)
                            w = ((c3 * t + c2) * t + c1) * t + load(table, at, 0, channels)
                            rise = (c3 * (3.0 * t) + c2 * 2.0) * t + c1
                        slope = load(g, i * n_out + row_out[group], 0, channels)
                        q, s = w * slope, zeros(x, channels)
                        for k in range(start[group], start[group + 1]):
                            f, m1 = factor[e, k], row_in[k]
                            feature = load(x, sender + m1, 0, channels)
                            s += f * feature
                            d_factor[e, k] = total(q * feature)
                            there = sent + m1
                            store(d_x, there, 0, load(d_x, there, 0, channels) + f * q)
                        to_t += rise * slope * s
                    d_between[e, 0] = total(to_t)

    return jit(backward)


@lru_cache(maxsize=32)
def make_tabulated_parameters(channels: int) -> Any:
    """Kernel: gradients of sum(g out) in x and table."""

    def backward(  # type: ignore[no-untyped-def]
        first, last, bounds, row, j, knot, n_in, n_out, n_paths, between, g, x, table, factor,
        row_in, path, row_out, start, d_x, d_table,
    ):  # fmt: skip
        n_atoms = len(row) - 1
        for piece in range(first, last):
            own = piece * len(table)  # rows of this piece alone
            for i in range(bounds[piece], bounds[piece + 1]):
                for e in range(row[i], row[i + 1]):
                    sender, sent = j[e] * n_in, (piece * n_atoms + j[e]) * n_in
                    t, group = between[e, 0], 0
                    while group < len(path):
                        p = path[group]
                        at = 4 * (knot[e] * n_paths + p)
                        w = load(table, at + 3, 0, channels) * t
                        w = (w + load(table, at + 2, 0, channels)) * t
                        w = (w + load(table, at + 1, 0, channels)) * t
                        w = w + load(table, at, 0, channels)
                        to_w = zeros(x, channels)
                        while group < len(path) and path[group] == p:
                            slope = load(g, i * n_out + row_out[group], 0, channels)
                            q, s = w * slope, zeros(x, channels)
                            for k in range(start[group], start[group + 1]):
                                f, m1 = factor[e, k], row_in[k]
                                s += f * load(x, sender + m1, 0, channels)
                                there = sent + m1
                                store(d_x, there, 0, load(d_x, there, 0, channels) + f * q)
                            to_w += slope * s
                            group += 1
                        at += own
                        for power in range(4):
                            store(
                                d_table,
                                at + power,
                                0,
                                load(d_table, at + power, 0, channels) + to_w,
                            )
                            to_w = to_w * t

    return jit(backward)
