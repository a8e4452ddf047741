r"""How the Fock matrix of a closed shell follows its orbitals, where they are few.

Occupied orbitals :math:`c_i` that change by :math:`x_i` change the density matrix by
:math:`2 \sum_i x_i c_i^T + c_i x_i^T`. Of its potential only elements between virtual and occupied
orbitals are wanted. So nothing is ever needed between two virtual ones: exchange with a fitted
density takes :math:`n_{fit} n^2 n_{occ}` operations rather than :math:`n_{fit} n^3`, and the
integration of exchange and correlation :math:`n_{points} n\, n_{occ}` rather than
:math:`n_{points} n^2`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hff_ase.labels.determinants import exact_exchange_parts

__all__ = ["FockResponse"]

Array = NDArray[np.float64]
FACTORS = 200e6  # bytes of unpacked three-centre integrals at once


class FockResponse:
    """The change of a converged closed shell's Fock matrix with its occupied orbitals.

    Args:
        mean_field: Kohn-Sham, of PySCF. Nonlocal correlation does not respond.
    """

    def __init__(self, mean_field: Any) -> None:
        self.mean_field = mean_field
        self.occupied: Array = mean_field.mo_coeff[:, mean_field.mo_occ > 0]
        self.virtual: Array = mean_field.mo_coeff[:, mean_field.mo_occ == 0]
        numint, molecule = mean_field._numint, mean_field.mol
        self.omega, self.full, self.more = exact_exchange_parts(mean_field)
        self.kernel = numint.cache_xc_kernel(
            molecule, mean_field.grids, mean_field.xc, mean_field.mo_coeff, mean_field.mo_occ, 0
        )[2]

    def __call__(self, kappa: Array) -> Array:
        """Hartree per unit of kappa.

        Args:
            kappa: [k, n_virtual, n_occupied], x_i = sum_a kappa_ai c_a, k of them at once.

        Returns:
            c_a F' c_i [k, n_virtual, n_occupied].
        """
        moved = np.einsum("pa,xai->xpi", self.virtual, kappa, optimize=True)
        found = self._local(moved)
        fitted = getattr(self.mean_field, "with_df", None)
        found += self._exact(moved) if fitted is None else self._fitted(fitted, moved)
        return np.asarray(np.einsum("pa,xpi->xai", self.virtual, found, optimize=True))

    def _exact(self, moved: Array) -> Array:
        """Coulomb and exchange potentials times occupied orbitals [k, n, n_occupied]."""
        mean_field, molecule = self.mean_field, self.mean_field.mol
        density = 2.0 * np.einsum("xpi,qi->xpq", moved, self.occupied)
        density = density + density.transpose(0, 2, 1)
        potential, exchange = mean_field.get_jk(molecule, density, hermi=1)
        potential = potential - 0.5 * self.full * exchange
        if self.more:
            exchange = mean_field.get_k(molecule, density, hermi=1, omega=self.omega)
            potential = potential - 0.5 * self.more * exchange
        return np.asarray(potential @ self.occupied)

    def _fitted(self, fitted: Any, moved: Array) -> Array:
        """The same with a fitted density, by the factors of its three-centre integrals."""
        found = self._by_factors(fitted, moved, self.full, coulomb=True)
        if self.more:
            with fitted.range_coulomb(self.omega) as screened:
                found += self._by_factors(screened, moved, self.more, coulomb=False)
        return found

    def _by_factors(self, fitted: Any, moved: Array, weight: float, coulomb: bool) -> Array:
        k, n, n_occupied = moved.shape
        found = np.zeros_like(moved)
        side_by_side = moved.transpose(1, 0, 2).reshape(n, k * n_occupied)
        for factors in _blocks(fitted, n):  # [f, n, n]
            rest = (factors.reshape(-1, n) @ self.occupied).reshape(-1, n, n_occupied)
            if coulomb:
                size = 4.0 * np.tensordot(moved, rest, axes=((1, 2), (1, 2)))  # [k, f]
                found += np.tensordot(size, rest, axes=1)
            if not weight:
                continue
            turned = (factors.reshape(-1, n) @ side_by_side).reshape(-1, n, k, n_occupied)
            among = np.einsum("qj,fqi->fji", self.occupied, rest, optimize=True)
            for x in range(k):
                across = np.tensordot(moved[x], rest, axes=(0, 1)).transpose(1, 0, 2)  # [f, j, i]
                found[x] -= weight * np.tensordot(rest, across, axes=((0, 2), (0, 1)))
                own = np.ascontiguousarray(turned[:, :, x])
                found[x] -= weight * np.tensordot(own, among, axes=((0, 2), (0, 1)))
        return found

    def _local(self, moved: Array) -> Array:
        """Potential of exchange and correlation times occupied orbitals [k, n, n_occupied]."""
        found = np.zeros_like(moved)
        if self.kernel is None:  # Hartree-Fock
            return found
        mean_field, place = self.mean_field, 0
        k, n, n_occupied = moved.shape
        side_by_side = moved.transpose(1, 0, 2).reshape(n, k * n_occupied)
        kinds = len(self.kernel)  # 1: density, 4: and its gradient, 5: and kinetic energy
        for values, _, weights, _ in mean_field._numint.block_loop(
            mean_field.mol, mean_field.grids, n, int(kinds > 1), mean_field.max_memory
        ):
            values = values if kinds > 1 else values[None]  # [1 or 4, g, n]
            here = slice(place, place + len(weights))
            place += len(weights)
            own = values @ self.occupied  # [4, g, i]
            new = (values @ side_by_side).reshape(len(values), -1, k, n_occupied)
            change = _densities(own, new, kinds)  # [kinds, g, k]
            answer = np.einsum("yxg,ygk,g->xgk", self.kernel[..., here], change, weights)
            pull = _pulled(answer, own, kinds)  # [4, g, k, i]
            for value, one in zip(values, pull, strict=True):
                part = (value.T @ one.reshape(len(weights), -1)).reshape(n, k, n_occupied)
                found += part.transpose(1, 0, 2)
        return found


def _blocks(fitted: Any, n: int) -> Iterator[Array]:
    """Factors [f, n, n] of two-electron integrals, some at a time."""
    from pyscf import lib

    for packed in fitted.loop(max(1, int(FACTORS / (8 * n * n)))):
        yield np.asarray(lib.unpack_tril(packed))


def _densities(own: Array, new: Array, kinds: int) -> Array:
    """Changes [kinds, g, k] of density, its gradient and kinetic energy.

    Args:
        own: occupied orbitals and their gradients [1 or 4, g, i].
        new: their changes [1 or 4, g, k, i].
    """
    found = np.empty((kinds, *new.shape[1:3]))
    found[0] = 4.0 * np.einsum("gi,gki->gk", own[0], new[0])
    for axis in range(1, min(kinds, 4)):
        found[axis] = np.einsum("gi,gki->gk", own[axis], new[0])
        found[axis] += np.einsum("gi,gki->gk", own[0], new[axis])
        found[axis] *= 4.0
    if kinds == 5:
        found[4] = 2.0 * np.einsum("dgi,dgki->gk", own[1:], new[1:])
    return found


def _pulled(answer: Array, own: Array, kinds: int) -> Array:
    """What multiplies basis functions and their gradients, [1 or 4, g, k, i].

    Args:
        answer: dE/d(density, gradient, kinetic energy) [kinds, g, k], with weights.
    """
    found = np.empty((len(own), *answer.shape[1:], own.shape[-1]))
    found[0] = answer[0][..., None] * own[0][:, None]
    for axis in range(1, len(own)):
        found[0] += answer[axis][..., None] * own[axis][:, None]
        found[axis] = answer[axis][..., None] * own[0][:, None]
        if kinds == 5:
            found[axis] += 0.5 * answer[4][..., None] * own[axis][:, None]
    return found
