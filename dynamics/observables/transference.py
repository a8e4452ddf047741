r"""Transference numbers in the frames that experiments use, and Stefan-Maxwell diffusivities.

A frame is a velocity U = sum_k a_k R_k with sum_k a_k N_k = 1; displacements relative to it are
R_i - N_i U, so L' = A L A^T with A = 1 - N a^T. Mass: a_k = m_k/M. Volume: a_k = v_k/V with partial
molar volumes v_k. Solvent: mass-averaged over the neutral species. Conductivity is the same in all,
transference numbers are not: t_i = z_i sum_j z_j L'_ij / sum_jk z_j z_k L'_jk.

Stefan-Maxwell (Newman and Thomas-Alyea, Electrochemical Systems, 3rd ed., ch. 12): in the frame of
one species 0, M = -c l^{-1} c (c diagonal, l = L'/(V kT) without 0), K_ij = M_ij, K_i0 is the sum
of -M_ij over j, and D_ij = kT c_i c_j/(c_T K_ij), c_T the concentration of all species.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.diffusion import A2_PER_PS
from hff_ase.dynamics.observables.diffusion import UNIT as DIFFUSION_UNIT
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.onsager import Onsager
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
FRAMES = ("mass", "volume", "solvent")


def frame_weights(
    onsager: Onsager, frame: str, volumes: Mapping[str, float] | None = None
) -> Array:
    """The weights a [n_kinds] of a frame's velocity, with sum a_k N_k = 1.

    Args:
        onsager: for species, numbers and masses.
        frame: ``mass``, ``volume``, ``solvent``, or the name of a species.
        volumes: partial molar volumes by species, in any unit; for ``volume``.

    Raises:
        ConfigError: another frame, volumes that are missing, or no neutral species.
    """
    n, m = onsager.numbers, onsager.masses
    if frame == "mass":
        return m / (n @ m)
    if frame == "volume":
        missing = [kind for kind in onsager.kinds if kind not in (volumes or {})]
        if missing or volumes is None:
            raise ConfigError(f"expected partial molar volumes of {', '.join(missing)}, got none")
        v = np.array([volumes[kind] for kind in onsager.kinds])
        return v / (n @ v)
    if frame == "solvent":
        chosen = onsager.charges == 0
        if not chosen.any():
            raise ConfigError("expected a solvent for its frame, got only ions")
        return np.where(chosen, m, 0.0) / (n @ np.where(chosen, m, 0.0))
    if frame in onsager.kinds:
        one = np.array([kind == frame for kind in onsager.kinds], dtype=float)
        return one / (n @ one)
    raise ConfigError(f"expected a frame {', '.join(FRAMES)} or a species, got {frame!r}")


def in_frame(matrix: Array, numbers: Array, weights: Array) -> Array:
    """A matrix of collective displacements [n, n] relative to the frame of ``weights``."""
    change = np.eye(len(numbers)) - np.outer(numbers, weights)
    moved: Array = change @ matrix @ change.T
    return moved


def transference(
    onsager: Onsager,
    kind: str,
    frame: str = "solvent",
    volumes: Mapping[str, float] | None = None,
) -> Observable:
    """Transference number of a species: its share of the current without gradients.

    Raises:
        ConfigError: no such species or one without charge; see `frame_weights`.
    """
    if kind not in onsager.kinds or onsager.charges[onsager.kinds.index(kind)] == 0:
        raise ConfigError(f"expected an ion of {', '.join(onsager.kinds)}, got {kind!r}")
    index, z = onsager.kinds.index(kind), onsager.charges
    weights = frame_weights(onsager, frame, volumes)

    def share(matrix: Array) -> float:
        moved = in_frame(matrix, onsager.numbers, weights)
        return float(z[index] * (moved[index] @ z) / (z @ moved @ z))

    return onsager.derived(share, "", f"Onsager matrix, {frame} frame")


def _element(friction: Callable[[Array], Array], i: int, j: int, matrix: Array) -> float:
    """One diffusivity of a matrix of displacements, 1e-9 m^2/s."""
    return A2_PER_PS * float(friction(matrix)[i, j])


def stefan_maxwell(onsager: Onsager, reference: str) -> dict[tuple[str, str], Observable]:
    """Stefan-Maxwell diffusivities of all pairs of species, 1e-9 m^2/s.

    They do not depend on which species is the ``reference``, but one without charge, of which
    there is most, is the best conditioned.

    Raises:
        ConfigError: no such species, or fewer than two.
    """
    if reference not in onsager.kinds or len(onsager.kinds) < 2:
        raise ConfigError(f"expected one of {', '.join(onsager.kinds)}, got {reference!r}")
    weights = frame_weights(onsager, reference)
    zero = onsager.kinds.index(reference)
    kept = [k for k in range(len(onsager.kinds)) if k != zero]
    n = onsager.numbers

    def friction(matrix: Array) -> Array:
        """N_T D_ij/(N_i N_j) of all pairs, Angstrom^2/ps."""
        moved = in_frame(matrix, n, weights)[np.ix_(kept, kept)]
        inner = -np.diag(n[kept]) @ np.linalg.inv(moved) @ np.diag(n[kept])
        full = np.zeros((len(n), len(n)))
        full[np.ix_(kept, kept)] = inner
        full[zero, kept] = full[kept, zero] = -inner.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Array = np.outer(n, n) / (n.sum() * full)
        return found

    pairs = [(i, j) for i in range(len(n)) for j in range(i + 1, len(n))]
    return {
        (onsager.kinds[i], onsager.kinds[j]): onsager.derived(
            partial(_element, friction, i, j),
            DIFFUSION_UNIT,
            f"Onsager matrix, Stefan-Maxwell, {reference} frame",
        )
        for i, j in pairs
    }
