r"""Spaces in which fragments polarise: how their orbitals respond to electric fields.

Without a limit, functions at one fragment would describe electrons at the other better and better
with the basis, and polarisation would take charge transfer with it. The response of a fragment
alone to uniform fields and their gradients (FERF, "nDQ") has a limit with the basis: for each
occupied orbital one virtual per component, 3 of the dipole and 5 of the quadrupole (Horn and
Head-Gordon, J. Chem. Phys. 143, 114111 (2015)).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hff_ase.labels.determinants import on_grid
from hff_ase.labels.response import FockResponse

__all__ = ["response_space"]

Array = NDArray[np.float64]
NEGLIGIBLE = (
    1e-4  # singular values of the response (atomic units) below which a virtual is left out
)
RESPONSE_GRID = 1  # PySCF's level
ACCURACY = 1e-6  # of the response
ROOT3 = float(np.sqrt(3.0))


def response_space(mean_field: Any) -> Array:
    """Orthonormal orbitals [n, d] of a fragment: the occupied ones and those that respond.

    Args:
        mean_field: converged, closed-shell, of PySCF.
    """
    from pyscf.scf import cphf

    occupied = mean_field.mo_coeff[:, mean_field.mo_occ > 0]
    virtual = mean_field.mo_coeff[:, mean_field.mo_occ == 0]
    if virtual.shape[1] == 0:
        return np.asarray(occupied)
    fields = np.einsum("pa,xpq,qi->xai", virtual, _multipoles(mean_field.mol), occupied)
    # the space hardly depends on the grid, nor on the response of nonlocal correlation
    response = FockResponse(on_grid(mean_field, RESPONSE_GRID))

    def induced(kappa: Array) -> Array:
        """Fock matrix by the response of orbitals, over virtual and occupied ones."""
        return response(kappa.reshape(-1, *fields.shape[1:])).ravel()

    kappa = cphf.solve(
        induced, mean_field.mo_energy, mean_field.mo_occ, -2.0 * fields, max_cycle=60, tol=ACCURACY
    )[0].reshape(fields.shape)
    found = []
    for component in kappa:
        left, size, _ = np.linalg.svd(component, full_matrices=False)
        found.append(left[:, size > NEGLIGIBLE])
    left, size, _ = np.linalg.svd(np.concatenate(found, axis=1), full_matrices=False)
    return np.concatenate([occupied, virtual @ left[:, size > NEGLIGIBLE]], axis=1)


def _multipoles(molecule: Any) -> Array:
    """Integrals of dipole and quadrupole about the centre of mass, [8, n, n], as real solid
    harmonics: x, y, z, sqrt(3) xy, sqrt(3) yz, (3 z^2 - r^2)/2, sqrt(3) xz, sqrt(3)/2 (x^2 - y^2).
    """
    mass = molecule.atom_mass_list()
    with molecule.with_common_orig(mass @ molecule.atom_coords() / mass.sum()):
        first = molecule.intor("int1e_r")
        second = molecule.intor("int1e_rr").reshape(3, 3, molecule.nao, molecule.nao)
    xx, yy, zz = second[0, 0], second[1, 1], second[2, 2]
    return np.stack(
        [
            *first,
            ROOT3 * second[0, 1],
            ROOT3 * second[1, 2],
            zz - 0.5 * (xx + yy),
            ROOT3 * second[0, 2],
            0.5 * ROOT3 * (xx - yy),
        ]
    )
