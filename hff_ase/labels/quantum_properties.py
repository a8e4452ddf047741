"""Properties of a PySCF density: multipoles, charges, electrostatic potential; ASE's units."""

from __future__ import annotations

from typing import Any

import numpy as np

from hff_ase.units import BOHR, HARTREE

BLOCK = 256 * 2**20  # bytes of integrals that are held at a time


def host(array: Any) -> np.ndarray:
    """An array on the CPU, whichever library holds it."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


def multipoles(molecule: Any, density: np.ndarray) -> dict[str, np.ndarray]:
    """``dipole`` [3] (e A) and ``quadrupole`` [3, 3] (e A^2) of nuclei and electrons.

    Both about the origin; the quadrupole is the plain second moment, sum q x_a x_b.
    """
    nuclei, where = molecule.atom_charges(), molecule.atom_coords()
    with molecule.with_common_orig((0.0, 0.0, 0.0)):
        first = np.einsum("xij,ji->x", molecule.intor("int1e_r"), density)
        second = np.einsum("xij,ji->x", molecule.intor("int1e_rr"), density).reshape(3, 3)
    dipole = nuclei @ where - first
    quadrupole = np.einsum("a,ax,ay->xy", nuclei, where, where) - second
    return {"dipole": dipole * BOHR, "quadrupole": quadrupole * BOHR**2}


def mulliken_charges(molecule: Any, density: np.ndarray) -> np.ndarray:
    """Mulliken charges [n_atoms], e."""
    populations = np.einsum("ij,ji->i", density, molecule.intor("int1e_ovlp"))
    return _atomic_charges(molecule, molecule, populations)


def iao_charges(molecule: Any, occupied: np.ndarray) -> np.ndarray:
    """Charges [n_atoms], e, in intrinsic atomic orbitals, as an IBO analysis gives them.

    Knizia, J. Chem. Theory Comput. 9, 4834 (2013). The orbitals (columns, doubly occupied) are
    spanned exactly by the orthogonalised IAOs, so localising them changes nothing.
    """
    from pyscf.lo import iao, orth

    overlap = molecule.intor("int1e_ovlp")
    orbitals = orth.vec_lowdin(iao.iao(molecule, occupied), overlap)
    populations = 2.0 * ((orbitals.T @ overlap @ occupied) ** 2).sum(1)
    return _atomic_charges(molecule, iao.reference_mol(molecule), populations)


def _atomic_charges(molecule: Any, minimal: Any, populations: np.ndarray) -> np.ndarray:
    charges = molecule.atom_charges().astype(float)
    owner = np.array([label[0] for label in minimal.ao_labels(fmt=None)])
    return charges - np.bincount(owner, populations, minlength=molecule.natm)


def potential(molecule: Any, density: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Electrostatic potential in V at points [m, 3] in Angstrom.

    From exact integrals: the density fitted for Coulomb integrals is a hundred times cheaper here
    but up to 10 mV off (formaldehyde, def2-SVPD), which is what charges are fitted to.
    """
    where = points / BOHR
    distance = np.linalg.norm(where[:, None] - molecule.atom_coords(), axis=2)
    total = (molecule.atom_charges() / distance).sum(1)
    step = max(1, int(BLOCK / (8 * molecule.nao**2)))
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        integrals = molecule.intor("int1e_grids", hermi=1, grids=where[part])
        total[part] -= integrals.reshape(-1, density.size) @ density.ravel()
    return total * HARTREE
