"""Plausible coordinates of a molecule from its graph alone."""

from __future__ import annotations

import itertools

import numpy as np
from ase.data import covalent_radii
from scipy.optimize import minimize

from hff_ase.errors import StructureError
from hff_ase.molecular.octahedra import LIGANDS, opposite
from hff_ase.molecular.templates import Template

CLEARANCE = 2.6  # Angstrom between atoms of a molecule that are not bonded to a common one
TRIALS = 20


def embedded(template: Template) -> np.ndarray:
    """Positions [n, 3], Angstrom, the same at every call: bonds as long as covalent radii say,
    angles about right, other atoms apart. Not a minimum of any energy.

    Raises:
        StructureError: none were found.
    """
    numbers = np.array(template.numbers)
    radii = covalent_radii[numbers]
    n = len(numbers)
    wanted, floor = np.zeros((n, n)), np.full((n, n), CLEARANCE)
    floor[template.apart <= 2] = 0.0
    floor[np.ix_(numbers == 1, numbers == 1)] *= 0.75
    for k, m in template.bonds:
        wanted[k, m] = radii[k] + radii[m]
    for apex in range(n):
        around = np.flatnonzero(template.apart[apex] == 1).tolist()
        cosine = {2: -1.0 / 3.0, 3: -0.5, 4: -1.0 / 3.0}.get(len(around), 0.0)
        for k, m in itertools.combinations(around, 2):
            if template.apart[k, m] == 1:
                continue
            a, b = radii[k] + radii[apex], radii[m] + radii[apex]
            cos = cosine
            if len(around) == LIGANDS:
                cos = -1.0 if opposite(around, k, m) else 0.0
            wanted[k, m] = np.sqrt(a * a + b * b - 2.0 * a * b * cos)
    i, j = np.triu_indices(n, 1)
    target, least = wanted[i, j], floor[i, j]
    stiff = np.where(template.apart[i, j] == 1, 10.0, 1.0)

    def energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = flat.reshape(n, 3)
        vector = x[j] - x[i]
        r = np.linalg.norm(vector, axis=1) + 1e-9
        off = np.where(target > 0, r - target, np.minimum(r - least, 0.0))
        slope = (2.0 * stiff * off / r)[:, None] * vector
        gradient = np.zeros((n, 3))
        np.add.at(gradient, j, slope)
        np.add.at(gradient, i, -slope)
        return float((stiff * off**2).sum()), gradient.ravel()

    rng = np.random.default_rng(0)
    best, found = np.inf, np.zeros((n, 3))
    for _ in range(TRIALS if n > 1 else 0):
        start = rng.normal(scale=1.5, size=3 * n)
        result = minimize(energy, start, jac=True, method="L-BFGS-B")
        if result.fun < best:
            best, found = float(result.fun), result.x.reshape(n, 3)
    distance = np.linalg.norm(found[j] - found[i], axis=1)
    if n > 1 and not _as_bonded(template, distance, i, j, radii):
        raise StructureError(f"expected to find a shape of {template.name!r}, got none")
    return found - found.mean(0)


def _as_bonded(
    template: Template, distance: np.ndarray, i: np.ndarray, j: np.ndarray, radii: np.ndarray
) -> bool:
    """Whether bonds, and only these, are as short as bonds are."""
    near = distance < 1.2 * (radii[i] + radii[j])
    return bool((near == (template.apart[i, j] == 1)).all())
