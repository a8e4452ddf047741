"""Energies of determinants at a level of theory, without the Fock matrix that goes with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Energy", "determinant_energy", "exact_exchange_parts", "on_grid", "tagged"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Energy:
    """Of one determinant, Hartree.

    Attributes:
        orbitals: occupied and orthonormal [n, n_occupied].
        total: with its nuclei.
        exchange_correlation: of the functional, nonlocal correlation included.
        exact_exchange: of Hartree-Fock, over the full range of distances.
    """

    orbitals: Array
    total: float
    exchange_correlation: float
    exact_exchange: float

    @property
    def density(self) -> Array:
        """Density matrix [n, n]."""
        return 2.0 * self.orbitals @ self.orbitals.T


def determinant_energy(mean_field: Any, orbitals: Array, core: Array, nuclei: float) -> Energy:
    """Of doubly occupied orbitals, at the functional of a mean field.

    Args:
        mean_field: Kohn-Sham, of PySCF; only its functional, grids and integrals matter.
        orbitals: orthonormal [n, n_occupied].
        core: energy of one electron [n, n], Hartree.
        nuclei: repulsion of the nuclei, Hartree.
    """
    molecule, density = mean_field.mol, tagged(orbitals)
    omega, full, more = exact_exchange_parts(mean_field)
    coulomb, exchange = mean_field.get_jk(molecule, density)
    exact = -0.25 * float(np.vdot(exchange, density))
    xc = _local(mean_field, orbitals) + _nonlocal(mean_field, density) + full * exact
    if more:
        exchange = mean_field.get_k(molecule, density, omega=omega)
        xc -= 0.25 * more * float(np.vdot(exchange, density))
    classical = float(np.vdot(core + 0.5 * coulomb, density)) + nuclei
    return Energy(orbitals, classical + xc, xc, exact)


def exact_exchange_parts(mean_field: Any) -> tuple[float, float, float]:
    """Omega, and how much a functional has of exchange by 1/r and, beside it, erf(omega r)/r."""
    omega, far, near = mean_field._numint.rsh_and_hybrid_coeff(mean_field.xc, mean_field.mol.spin)
    return float(omega), float(near), float(far - near) if omega else 0.0


def on_grid(mean_field: Any, level: int) -> Any:
    """The mean field on a grid of at most a level of PySCF; integrals and the rest are shared."""
    if mean_field.grids.level <= level:
        return mean_field
    coarse = mean_field.copy()
    coarse.grids = mean_field.grids.copy().reset()
    coarse.grids.level = level
    return coarse


def tagged(orbitals: Array) -> Any:
    """The density of orthonormal orbitals with them attached: PySCF is faster where it has them."""
    from pyscf import lib

    return lib.tag_array(
        2.0 * orbitals @ orbitals.T, mo_coeff=orbitals, mo_occ=np.full(orbitals.shape[1], 2.0)
    )


def _local(mean_field: Any, orbitals: Array) -> float:
    """Integral of the functional of density, gradient and kinetic energy."""
    numint, molecule = mean_field._numint, mean_field.mol
    kind = numint._xc_type(mean_field.xc)
    if kind == "HF":
        return 0.0
    if mean_field.grids.coords is None:
        mean_field.grids.build()
    energy, n = 0.0, len(orbitals)
    occupation = np.full(orbitals.shape[1], 2.0)
    for values, mask, weights, _ in numint.block_loop(
        molecule, mean_field.grids, n, int(kind != "LDA"), mean_field.max_memory
    ):
        density = numint.eval_rho2(
            molecule, values, orbitals, occupation, mask, kind, with_lapl=False
        )
        per_electron = numint.eval_xc_eff(mean_field.xc, density, deriv=0, xctype=kind)[0]
        energy += float(np.dot(np.atleast_2d(density)[0] * weights, per_electron))
    return energy


def _nonlocal(mean_field: Any, density: Any) -> float:
    """Energy of nonlocal correlation (VV10), whether or not orbitals feel it."""
    numint = mean_field._numint
    if not numint.libxc.is_nlc(mean_field.xc):
        return 0.0
    if mean_field.nlcgrids.coords is None:
        mean_field.nlcgrids.build()
    return float(numint.nr_nlc_vxc(mean_field.mol, mean_field.nlcgrids, mean_field.xc, density)[1])
