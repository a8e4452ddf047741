"""Check forces against energies, by similar frames of the same atoms.

Between two such frames the energy changes by minus the mean force times the displacement, up to
third order. One wrong unit or sign in all the frames, which no comparison of frames shows, makes
another slope of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms

from hff_ase.data.labels import result_of, source_of
from hff_ase.errors import StructureError

REACH = 0.3  # Angstrom, how far an atom may move between two frames that are compared
PAIRS = (8, 2000)  # fewer say nothing, more are not looked at
CORRELATED = 0.8  # below this it is noise, or frames that are too far apart
CLEAR = 0.95  # above this the slope is sharp, below it is known to a factor of two or so
# Stiff bonds, dispersion in one of the two, a basis set's error and the like are inside WIDE;
# within it only a slope that is a known conversion to NEAR is taken for one.
NEAR, WIDE = 0.1, 2.5
# How many times the work of the forces the energy changes by, and what that suggests.
MEANINGS = {
    51.4221: "forces in Hartree/Bohr",
    25.7110: "forces in Rydberg/Bohr",
    1 / 27.2114: "energies in Hartree",
    1 / 1.889726: "energies in Hartree and forces in Hartree/Bohr",
    23.0605: "energies in kcal/mol",
    1 / 23.0605: "forces in kcal/mol/A",
    96.4853: "energies in kJ/mol",
    1 / 96.4853: "forces in kJ/mol/A",
    1 / 9.64853: "forces in kJ/mol/nm",
    1000.0: "energies in meV",
    1e-3: "forces in meV/A",
}
Pair = tuple[Atoms, Atoms, float, float]  # two frames, change of energy and work, eV


def check_agreement(frames: Sequence[Atoms]) -> None:
    """Refuse forces of another unit or sign than the energies, where frames show it.

    Raises:
        StructureError: says by how much they differ, what that suggests, and two of the frames.
    """
    pairs = [pair for pair, _ in zip(_pairs(frames), range(PAIRS[1]), strict=False)]
    if len(pairs) < PAIRS[0]:
        return
    change, work = np.array([[pair[2], pair[3]] for pair in pairs]).T
    norms = float(np.sqrt((change**2).sum() * (work**2).sum()))
    if not norms > 0.0 or abs(float(change @ work)) < CORRELATED * norms:
        return
    slope = float(change @ work / (work @ work))
    sharp = abs(float(change @ work)) > CLEAR * norms
    if 1 / WIDE <= slope <= WIDE and not (sharp and _is_conversion(slope)):
        return
    per_atom = slope * float(np.median([len(first) for first, *_ in pairs]))
    raise StructureError(
        "expected forces that are minus the gradient of the energies, got energies that change by "
        f"{slope:.3g} times the work of the forces{_meaning(slope, per_atom)} between frames such "
        f"as {source_of(pairs[0][0])} and {source_of(pairs[0][1])}"
    )


def _pairs(frames: Sequence[Atoms]) -> Iterator[Pair]:
    last: dict[bytes, Atoms] = {}
    for atoms in frames:
        energy, forces = result_of(atoms, "energy"), result_of(atoms, "forces")
        if energy is None or forces is None or len(atoms) < 2:
            continue
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            continue
        key = atoms.numbers.tobytes() + atoms.cell.array.round(6).tobytes()
        before, last[key] = last.get(key), atoms
        if before is None:
            continue
        moved = atoms.positions - before.positions
        if atoms.pbc.all():
            shift = np.round(moved @ np.linalg.inv(atoms.cell.array))
            moved = moved - shift @ atoms.cell.array
        if 0.0 < np.abs(moved).max() < REACH:
            mean = (np.asarray(forces) + np.asarray(result_of(before, "forces"))) / 2
            change = float(energy) - float(result_of(before, "energy"))
            yield before, atoms, change, -float((mean * moved).sum())


def _is_conversion(slope: float) -> bool:
    return any(abs(np.log(slope / known)) < NEAR for known in MEANINGS)


def _meaning(slope: float, per_atom: float) -> str:
    sign = " and the sign of the gradient" if slope < 0 else ""
    size = abs(slope)
    if abs(np.log(size)) < 2 * NEAR:
        return " (forces with the sign of the gradient?)"
    best = min(MEANINGS, key=lambda known: abs(np.log(size / known)))
    if abs(np.log(size / best)) < 0.2:
        return f" ({MEANINGS[best]}{sign}?)"
    if 0.7 < abs(per_atom) < 1.4:
        return f" (energies per atom{sign}?)"
    return ""
