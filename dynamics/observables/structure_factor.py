r"""X-ray and neutron structure factors after Faber and Ziman.

.. math:: S(q) = 1 + \sum_{ab} \frac{c_a c_b f_a f_b}{\langle f \rangle^2} (S_{ab}(q) - 1), \qquad
    S_{ab} = 1 + 4\pi\rho \int r^2 (g_{ab} - 1) \frac{\sin qr}{qr} w(r) \, dr

with Lorch's window w = sin(pi r/R)/(pi r/R) against the end of g at R (J. Phys. C 2, 229 (1969)).
Form factors are those of free atoms (Cromer and Mann, International Tables for X-ray
Crystallography, vol. IV), coherent scattering lengths those of natural elements, both from
periodictable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.observable import Observable, one_sigma, refuse
from hff_ase.dynamics.observables.rdf import PairDistributions
from hff_ase.dynamics.observables.trajectory import Trajectory
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
PEAK = (0.8, 4.0)  # 1/Angstrom, where the main peak of a molecular liquid is looked for


def form_factors(element: str, q: Array, radiation: str = "xray") -> Array:
    """Scattering of an atom [n_q]: electrons for x-rays, fm for neutrons.

    Args:
        element: chemical symbol.
        q: [n_q], 1/Angstrom.
        radiation: ``xray`` or ``neutron``.

    Raises:
        ConfigError: another radiation, an element without a value, or no periodictable.
    """
    if radiation not in ("xray", "neutron"):
        raise ConfigError(f"expected xray or neutron, got {radiation!r}")
    if find_spec("periodictable") is None:
        raise ConfigError("expected periodictable, got none: pip install 'hff-ase[analysis]'")
    library: Any = import_module("periodictable")
    try:
        if radiation == "xray":
            table: Any = import_module("periodictable.cromermann")
            return np.asarray(table.fxrayatq(element, q), dtype=float)
        length = library.elements.symbol(element).neutron.b_c
    except (KeyError, ValueError, AttributeError):
        length = None
    if length is None:
        raise ConfigError(f"expected an element with a known scattering, got {element!r}")
    return np.full(len(q), float(length))


def faber_ziman(
    found: PairDistributions, numbers: Mapping[str, int], q: Array, radiation: str = "xray"
) -> Array:
    """Total structure factor [n_q] from all partial functions, 1 at large q.

    Args:
        found: g of every pair of elements there, in one order or both.
        numbers: atoms of each element.
        q: [n_q], 1/Angstrom, above zero; below 2 pi/R the end of g shows.
        radiation: ``xray`` or ``neutron``.

    Raises:
        ConfigError: a pair that is missing; see `form_factors`.
    """
    total = sum(numbers.values())
    share = {kind: n / total for kind, n in numbers.items()}
    factor = {kind: form_factors(kind, q, radiation) for kind in numbers}
    mean = sum(share[kind] * factor[kind] for kind in numbers)
    density, r = total / found.volume, found.distance
    window = np.sinc(r / found.edges[-1])
    width = found.edges[1] - found.edges[0]
    kernel = 4 * np.pi * density * width * r**2 * window * np.sinc(np.outer(q, r) / np.pi)
    result = np.ones(len(q))
    for one in numbers:
        for other in numbers:
            name = f"{one}-{other}" if f"{one}-{other}" in found.g else f"{other}-{one}"
            if name not in found.g:
                if one == other and numbers[one] == 1:
                    continue  # a single atom has no pair
                raise ConfigError(f"expected g of {one}-{other}, got {', '.join(found.g)}")
            partial = kernel @ (found.g[name] - 1.0)
            weight = share[one] * share[other] * factor[one] * factor[other] / mean**2
            result += weight * partial
    return result


def faber_ziman_with_error(
    found: PairDistributions, numbers: Mapping[str, int], q: Array, radiation: str = "xray"
) -> tuple[Array, Array]:
    """The same with its standard error over the blocks of g [n_q]; nan with fewer than three.

    Args:
        found, numbers, q, radiation: as for `faber_ziman`.
    """
    parts = [faber_ziman(one, numbers, q, radiation) for one in _blocks(found)]
    whole = faber_ziman(found, numbers, q, radiation)
    if len(parts) < 3:
        return whole, np.full(len(q), np.nan)
    return whole, np.std(parts, axis=0, ddof=1) / np.sqrt(len(parts))


def first_peak(
    found: PairDistributions, numbers: Mapping[str, int], radiation: str = "xray"
) -> dict[str, Observable]:
    """Place (1/Angstrom) and height of the main peak of S(q), with errors by jackknife over blocks.

    Args:
        found, numbers, radiation: as for `faber_ziman`.
    """
    grid: Array = np.arange(*PEAK, 0.02)
    parts = np.array([faber_ziman(one, numbers, grid, radiation) for one in _blocks(found)])
    method, n = f"main peak of S(q), {radiation}, from g(r)", len(parts)
    place, height = _peak(grid, faber_ziman(found, numbers, grid, radiation))
    result = {}
    for name, unit, value in (("place", "1/A", place), ("height", "", height)):
        if n < 3:
            result[name] = refuse(unit, method, "fewer than three frames", value=value, needs=10.0)
            continue
        k = ("place", "height").index(name)
        left = np.array([_peak(grid, (parts.sum(axis=0) - one) / (n - 1))[k] for one in parts])
        error = float(np.sqrt((n - 1) / n * np.sum((left - left.mean()) ** 2)))
        dof = float(n - 1)
        result[name] = Observable(value, error * one_sigma(dof), unit, method, float(n), dof)
    return result


def _peak(q: Array, s: Array) -> tuple[float, float]:
    """The highest point, between samples by the parabola through the three that are highest."""
    k = int(np.clip(np.argmax(s), 1, len(q) - 2))
    low, top, high = s[k - 1 : k + 2]
    bend = low - 2 * top + high
    shift = 0.5 * (low - high) / bend if bend < 0 else 0.0
    shift = float(np.clip(shift, -1.0, 1.0))
    return float(q[k] + shift * (q[1] - q[0])), float(top - 0.25 * (low - high) * shift)


def _blocks(found: PairDistributions) -> list[PairDistributions]:
    """The functions of each block of frames alone."""
    count = min(map(len, found.blocks.values()))
    return [
        replace(found, g={name: blocks[k] for name, blocks in found.blocks.items()})
        for k in range(count)
    ]


def direct(
    trajectory: Trajectory, q_max: float, radiation: str = "xray", bin_width: float = 0.02
) -> tuple[Array, Array]:
    """The same by a sum over the reciprocal vectors of the cell: exact, for small q.

    The self part is that of Faber and Ziman: <f^2>/<f>^2 of independent atoms becomes 1.

    Args:
        trajectory: all atoms; the first frame's cell counts.
        q_max: 1/Angstrom; the cost grows with its cube.
        radiation: ``xray`` or ``neutron``.
        bin_width: of shells of q, 1/Angstrom.

    Returns:
        q [n_shells] (shells with vectors only) and S(q).
    """
    cell, symbols = trajectory.cells[0], trajectory.topology.symbols
    reciprocal = 2 * np.pi * np.linalg.inv(cell).T
    most = np.ceil(q_max * np.linalg.norm(cell, axis=1) / (2 * np.pi)).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(-m, m + 1) for m in most], indexing="ij"), -1)
    vectors = grid.reshape(-1, 3)
    first = (vectors != 0).argmax(axis=1)
    half = vectors[np.arange(len(vectors)), first] > 0  # of each pair q, -q one
    vectors = vectors[half] @ reciprocal
    q = np.linalg.norm(vectors, axis=1)
    vectors, q = vectors[q <= q_max], q[q <= q_max]
    kinds, kind = np.unique(symbols, return_inverse=True)
    factors = np.stack([form_factors(str(k), q, radiation) for k in kinds])
    share = np.bincount(kind) / len(symbols)
    mean, square = share @ factors, share @ factors**2
    intensity = np.zeros(len(q))
    for positions in trajectory.positions:
        for start in range(0, len(q), 500):
            some = slice(start, start + 500)
            phase = np.exp(1j * positions @ vectors[some].T)
            amplitude = (factors[kind][:, some] * phase).sum(axis=0)
            intensity[some] += np.abs(amplitude) ** 2
    intensity /= len(trajectory) * len(symbols)
    s = 1.0 + (intensity - square) / mean**2
    shell = (q / bin_width).astype(int)
    counts = np.bincount(shell)
    filled = counts > 0
    means = [np.bincount(shell, values)[filled] / counts[filled] for values in (q, s)]
    return means[0], means[1]
