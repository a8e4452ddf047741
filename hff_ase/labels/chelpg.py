"""CHELPG: partial charges that reproduce the electrostatic potential around a molecule.

Breneman and Wiberg, J. Comput. Chem. 11, 361 (1990): the potential on a cubic grid of points
outside the atoms and near the molecule is fitted by charges on the nuclei.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.data.vdw import vdw_radii

from hff_ase.errors import ConfigError, StructureError
from hff_ase.units import COULOMB_CONSTANT

SPACING = 0.3  # Angstrom, of the grid
MARGIN = 2.8  # Angstrom, the farthest a point may be from the nearest nucleus
# Their van der Waals radii in Angstrom, by last atomic number of the range; Bondi's beyond.
RADII = ((2, 1.45), (6, 1.5), (10, 1.7), (18, 2.0))


def chelpg_radii(numbers: np.ndarray) -> np.ndarray:
    """Radii in Angstrom [n_atoms] of the atoms that hold no points.

    Breneman's and Wiberg's up to Ne and 2 A up to Ar as programs have them, Bondi's beyond.

    Raises:
        StructureError: an element without a radius.
    """
    radii = vdw_radii[numbers].copy()
    for last, radius in reversed(RADII):
        radii[numbers <= last] = radius
    if not np.isfinite(radii).all():
        symbol = chemical_symbols[int(numbers[int(np.argmin(np.isfinite(radii)))])]
        raise StructureError(f"expected elements with a van der Waals radius, got {symbol}")
    return radii


def chelpg_points(atoms: Atoms, spacing: float = SPACING, margin: float = MARGIN) -> np.ndarray:
    """The points at which CHELPG fits the potential.

    A cubic grid over the molecule's bounding box widened by ``margin``, centred on it, without
    points inside the radius of an atom (`chelpg_radii`) and without points farther than ``margin``
    from every nucleus.

    Returns:
        float64 [n_points, 3], Angstrom.

    Raises:
        ConfigError: a spacing or margin that gives no points.
        StructureError: a periodic structure, or an element without a radius.
    """
    if atoms.pbc.any():
        raise StructureError("expected a molecule without a cell for CHELPG, got a periodic one")
    if not 0 < spacing <= 1.0:
        raise ConfigError(f"expected a grid spacing above 0 and up to 1 Angstrom, got {spacing!r}")
    radii = chelpg_radii(atoms.numbers)
    if margin <= radii.min():
        raise ConfigError(f"expected a margin beyond every radius, got {margin!r} Angstrom")
    low, high = atoms.positions.min(0) - margin, atoms.positions.max(0) + margin
    steps = np.ceil((high - low) / spacing).astype(int)
    start = 0.5 * (low + high - steps * spacing)
    axes = [start[k] + spacing * np.arange(steps[k] + 1) for k in range(3)]
    kept = []
    for x in axes[0]:  # one plane at a time: the whole grid by all atoms would be gigabytes
        plane = np.stack(np.meshgrid([x], axes[1], axes[2], indexing="ij"), -1).reshape(-1, 3)
        distance = np.linalg.norm(plane[:, None] - atoms.positions, axis=2)
        kept.append(plane[(distance > radii).all(1) & (distance.min(1) <= margin)])
    return np.concatenate(kept)


def chelpg_charges(
    atoms: Atoms,
    points: np.ndarray,
    potential: np.ndarray,
    charge: float,
    dipole: np.ndarray | None = None,
) -> np.ndarray:
    """Charges on the nuclei that reproduce a potential in the least-squares sense.

    Minimises sum_i (V_i - k_e sum_j q_j / r_ij)^2 under sum_j q_j = charge and, where a dipole is
    given, sum_j q_j x_j = dipole.

    Args:
        atoms: the molecule, n atoms.
        points: [m, 3], Angstrom.
        potential: [m], V.
        charge: total charge, e.
        dipole: [3], e Angstrom about the origin of the positions, or None.

    Returns:
        float64 [n], e. The constraints hold to rounding. Charges that the potential does not
        determine (buried atoms) are those of least norm.

    Raises:
        StructureError: no points, or a dipole that no charges on these atoms can have.
    """
    if len(points) == 0:
        raise StructureError("expected grid points around the molecule, got none")
    inverse = 1.0 / np.linalg.norm(points[:, None] - atoms.positions, axis=2)  # [m, n]
    rows, values = [np.ones(len(atoms))], [float(charge)]
    if dipole is not None:
        rows += list(atoms.positions.T)
        values += list(np.asarray(dipole, dtype=float))
    constraints, wanted = np.array(rows), np.array(values)
    # q = one solution of the constraints + free directions that keep them
    particular = np.linalg.lstsq(constraints, wanted, rcond=None)[0]
    miss = float(np.abs(constraints @ particular - wanted).max())
    if miss > 1e-6:
        raise StructureError(
            f"expected a dipole that charges on the {len(atoms)} atoms can have, got one that "
            f"they miss by {miss:.3g} e A"
        )
    _, singular, directions = np.linalg.svd(constraints)
    free = directions[int((singular > 1e-10 * singular[0]).sum()) :].T  # [n, n - constraints]
    residual = np.asarray(potential) / COULOMB_CONSTANT - inverse @ particular
    fitted = np.linalg.lstsq(inverse @ free, residual, rcond=None)[0]
    charges = particular + free @ fitted
    return charges + (charge - charges.sum()) / len(atoms)


def potential_of_charges(
    positions: np.ndarray, charges: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Potential in V at points [m, 3] of point charges (e) at positions [n, 3] (Angstrom)."""
    distance = np.linalg.norm(points[:, None] - positions, axis=2)
    return COULOMB_CONSTANT * (charges / distance).sum(1)
