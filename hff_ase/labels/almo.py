r"""States of absolutely localised molecular orbitals, between separate fragments and the whole.

A fragment's orbitals use its own basis functions only. Three states lie between separate fragments
and their relaxed complex (Horn, Mao and Head-Gordon, Phys. Chem. Chem. Phys. 18, 23067 (2016)):

- frozen: the fragments' orbitals as they are, made into one determinant;
- split: the same determinant, its orbitals rotated among themselves into orthogonal sets, one per
  fragment, whose energies, each with its own nuclei, sum to the least
  (J. Chem. Phys. 144, 114107 (2016));
- polarised: each fragment's orbitals relaxed within a space of its own (`hff_ase.labels.ferf`).

Orbitals are found on a coarse grid; their energies on the fine one depend on it in second order.
Energies are in Hartree, matrices over the basis functions of the complex, fragment by fragment.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, eigh

from hff_ase.labels.determinants import Energy, determinant_energy, on_grid, tagged
from hff_ase.labels.extrapolation import DIIS

__all__ = ["Complex", "NotConvergedError"]

Array = NDArray[np.float64]
SWEEPS = 200  # of fragments at one Fock matrix: products of small matrices


class NotConvergedError(Exception):
    """Orbitals that do not converge."""


class Complex:
    """Fragments and their complex at one level of theory.

    Args:
        whole: unconverged Kohn-Sham mean field of PySCF, its atoms fragment by fragment.
        fragments: converged mean fields of the fragments.
        tolerance: of energies, Hartree; orbital gradients go to its root.
        max_cycles: Fock matrices per state.
        orbital_grid: PySCF's level of the grid on which orbitals are found, where that of
            ``whole`` is finer.
    """

    def __init__(
        self,
        whole: Any,
        fragments: Sequence[Any],
        tolerance: float,
        max_cycles: int,
        orbital_grid: int = 9,
    ) -> None:
        self.whole, self.fragments = whole, list(fragments)
        self.coarse = on_grid(whole, orbital_grid)
        self.tolerance, self.max_cycles = tolerance, max_cycles
        molecule = whole.mol
        self.overlap: Array = molecule.intor("int1e_ovlp")
        self.kinetic: Array = molecule.intor("int1e_kin")
        self.attraction = [self._attraction(one.mol) for one in self.fragments]
        self.orbitals = [one.mo_coeff[:, one.mo_occ > 0] for one in self.fragments]
        sizes = [one.mol.nao for one in self.fragments]
        ends = np.cumsum([0, *sizes])
        self.rows = [slice(a, b) for a, b in pairwise(ends)]
        self.n_occupied = [c.shape[1] for c in self.orbitals]

    def _attraction(self, molecule: Any) -> Array:
        """Of one electron in the basis of the complex by the nuclei of a fragment."""
        whole = self.whole.mol
        points = molecule.atom_coords()
        integrals = whole.intor("int1e_grids", hermi=1, grids=points)
        return np.asarray(-np.einsum("gij,g->ij", integrals, molecule.atom_charges()))

    def energy(self, orbitals: Array, fragment: int | None = None) -> Energy:
        """Of orthonormal orbitals [n, n_occupied] with all nuclei, or with those of a fragment."""
        molecule = self.whole.mol if fragment is None else self.fragments[fragment].mol
        nuclei = float(molecule.energy_nuc())
        return determinant_energy(self.whole, orbitals, self._core(fragment), nuclei)

    def _core(self, fragment: int | None) -> Array:
        of = slice(None) if fragment is None else slice(fragment, fragment + 1)
        return np.asarray(self.kinetic + sum(self.attraction[of]))

    def fock(self, orbitals: Array, fragment: int | None = None) -> Array:
        """Fock matrix [n, n] on the coarse grid, with all nuclei or with those of a fragment."""
        potential = self.coarse.get_veff(self.whole.mol, tagged(orbitals))
        return np.asarray(self._core(fragment) + np.asarray(potential))

    def coulomb(self, i: int, first: Array, j: int, second: Array) -> float:
        """Between fragments i and j with densities in the basis of the complex."""
        a, b = self.fragments[i].mol, self.fragments[j].mol
        apart = np.linalg.norm(a.atom_coords()[:, None] - b.atom_coords(), axis=2)
        nuclei = float((a.atom_charges()[:, None] * b.atom_charges() / apart).sum())
        electrons = float(np.vdot(self.whole.get_j(self.whole.mol, first), second))
        across = np.vdot(self.attraction[j], first) + np.vdot(self.attraction[i], second)
        return nuclei + electrons + float(across)

    def electrostatics(self, densities: Sequence[Array]) -> float:
        """Between all pairs of fragments."""
        n = len(densities)
        return sum(
            self.coulomb(i, densities[i], j, densities[j])
            for i in range(n)
            for j in range(i + 1, n)
        )

    def fragment_densities(self) -> list[Array]:
        """Of the separate fragments, in the basis of the complex."""
        found = []
        for rows, orbitals in zip(self.rows, self.orbitals, strict=True):
            density = np.zeros_like(self.overlap)
            density[rows, rows] = 2.0 * orbitals @ orbitals.T
            found.append(density)
        return found

    def determinant(self, orbitals: Sequence[Array]) -> Array:
        """Orthonormal orbitals nearest to those of all fragments [n_fragment, n_occupied] each."""
        own = block_diag(*orbitals)
        values, vectors = np.linalg.eigh(own.T @ self.overlap @ own)
        return np.asarray(own @ (vectors / np.sqrt(values)) @ vectors.T)

    def _projector(self, orbitals: Array) -> Array:
        metric = orbitals.T @ self.overlap @ orbitals
        return np.asarray(orbitals @ np.linalg.solve(metric, orbitals.T))

    def frozen(self) -> Energy:
        """The determinant of the separate fragments' orbitals."""
        return self.energy(self.determinant(self.orbitals))

    def split(self) -> list[Energy]:
        """The frozen determinant as orthogonal fragments, the sum of their energies the least.

        At given Fock matrices the best division between two fragments takes the lowest
        eigenvectors of the difference of their matrices, so pairs are divided in turn and Fock
        matrices extrapolated until the division is stationary.

        Raises:
            NotConvergedError: it is not after `max_cycles`.
        """
        basis = self.determinant(self.orbitals)
        ends = np.cumsum([0, *self.n_occupied])
        columns = [slice(a, b) for a, b in pairwise(ends)]
        rotation = np.eye(basis.shape[1])
        diis = DIIS()
        for _ in range(self.max_cycles):
            parts = [rotation[:, c] for c in columns]
            focks = np.stack(
                [basis.T @ self.fock(basis @ p, k) @ basis for k, p in enumerate(parts)]
            )
            error = sum(
                (m @ p @ p.T - p @ p.T @ m for m, p in zip(focks, parts, strict=True)),
                np.zeros_like(rotation),
            )
            if np.abs(error).max(initial=0.0) < np.sqrt(self.tolerance):
                return [self.energy(basis @ p, k) for k, p in enumerate(parts)]
            rotation = _divided(rotation, columns, diis(focks, error))
        raise NotConvergedError("fragments of the frozen determinant")

    def polarised(self, spaces: Sequence[Array]) -> Energy:
        """Each fragment's orbitals relaxed within a space [n_fragment, d] around the frozen ones.

        Raises:
            NotConvergedError: they are not stationary after `max_cycles`.
        """
        orbitals, diis = list(self.orbitals), DIIS()
        for _ in range(self.max_cycles):
            together = self.determinant(orbitals)
            fock = self.fock(together)
            error = np.concatenate([e.ravel() for e in self._gradients(orbitals, spaces, fock)])
            if np.abs(error).max(initial=0.0) < np.sqrt(self.tolerance):
                return self.energy(together)
            orbitals = self._relaxed(orbitals, spaces, diis(fock, error))
        raise NotConvergedError("polarised fragments")

    def _gradients(
        self, orbitals: Sequence[Array], spaces: Sequence[Array], fock: Array
    ) -> list[Array]:
        """dE/d(orbitals of each fragment) within its space, turned to a fixed frame: [d, d]."""
        all_orbitals = block_diag(*orbitals)
        metric = all_orbitals.T @ self.overlap @ all_orbitals
        outside = np.eye(len(fock)) - self.overlap @ self._projector(all_orbitals)
        slopes = outside @ fock @ np.linalg.solve(metric, all_orbitals.T).T  # [n, n_occupied]
        ends, found = np.cumsum([0, *self.n_occupied]), []
        for k, (rows, space) in enumerate(zip(self.rows, spaces, strict=True)):
            own = slopes[rows, ends[k] : ends[k + 1]] @ orbitals[k].T
            found.append(space.T @ own @ self.overlap[rows, rows] @ space)
        return found

    def _relaxed(
        self, orbitals: Sequence[Array], spaces: Sequence[Array], fock: Array
    ) -> list[Array]:
        """The best orbitals for one Fock matrix, fragment by fragment in turn.

        With the others' orbitals projected out of its space, a fragment's are the lowest
        eigenvectors.
        """
        found = list(orbitals)
        for _ in range(SWEEPS):
            before = self._projector(block_diag(*found))
            for k, (rows, space) in enumerate(zip(self.rows, spaces, strict=True)):
                others = block_diag(*(c if j != k else c[:, :0] for j, c in enumerate(found)))
                outside = np.eye(len(fock)) - self._projector(others) @ self.overlap
                own = outside[:, rows] @ space  # [n, d]
                _, vectors = eigh(own.T @ fock @ own, own.T @ self.overlap @ own)
                found[k] = space @ vectors[:, : self.n_occupied[k]]
            if np.abs(self._projector(block_diag(*found)) - before).max() < 1e-10:
                break
        return found


def _divided(rotation: Array, columns: Sequence[slice], focks: Array) -> Array:
    """The rotation [n, n] of occupied orbitals whose columns give each fragment its best."""
    rotation = rotation.copy()
    n = len(columns)
    for _ in range(SWEEPS if n > 2 else 1):  # two fragments need one turn
        before = rotation.copy()
        for i in range(n):
            for j in range(i + 1, n):
                both = np.concatenate([rotation[:, columns[i]], rotation[:, columns[j]]], axis=1)
                _, vectors = np.linalg.eigh(both.T @ (focks[i] - focks[j]) @ both)
                both = both @ vectors
                count = columns[i].stop - columns[i].start
                rotation[:, columns[i]], rotation[:, columns[j]] = both[:, :count], both[:, count:]
        same = [
            np.abs(rotation[:, c] @ rotation[:, c].T - before[:, c] @ before[:, c].T).max()
            for c in columns
        ]
        if max(same) < 1e-10:
            break
    return rotation
