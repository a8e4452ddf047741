"""Labels under the names that other programs give them, and names that only look like labels."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from hff_ase.errors import HFFWarning

# What a label is called, by the words of its name.
WORDS = {
    "energy": "energy", "force": "forces", "forces": "forces", "stress": "stress",
    "virial": "virial", "virials": "virial", "charges": "charges", "dipole": "dipole",
}  # fmt: skip
# Words that may stand beside one: they say that it is the label and not somebody's prediction.
REFERENCE = {
    "ref", "reference", "dft", "qm", "label", "labels", "target", "true", "total", "potential",
    "free", "scf", "moment",
}  # fmt: skip
# Names with one of these are other things, and never meant as labels.
OTHER = {
    "spread", "error", "std", "variance", "uncertainty", "weight", "kind", "from", "shift",
    "initial", "teacher", "dispersion",
}  # fmt: skip
PER_ATOM: dict[str, tuple[int, ...]] = {"forces": (3,), "charges": ()}
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "energy": [()],
    "stress": [(6,), (3, 3), (9,)],
    "virial": [(3, 3), (9,)],
    "dipole": [(3,)],
}
ALIKE = {"stress": ("virial",), "virial": ("stress",)}  # one stands for the other
FROM = "labels_from"  # in info: which names labels came under


def words_of(name: str) -> list[str]:
    """The words of a name such as ``REF_forces``, ``TotalEnergy`` or ``dft-energy``, small."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def meaning(name: str) -> tuple[str | None, bool]:
    """The property that a name refers to (None for none), and whether it is certainly its label."""
    words = words_of(name)
    found = {WORDS[word] for word in words if word in WORDS}
    if len(found) != 1 or OTHER & set(words):
        return None, False
    return found.pop(), all(word in WORDS or word in REFERENCE for word in words)


def with_known_labels(frames: Sequence[Atoms], place: str = "") -> list[Atoms]:
    """The frames with labels under other names moved to where ASE has them.

    ``REF_energy``, ``force``, ``dft_forces``, ``virials``, ``free_energy`` and the like become
    results of the frame's calculator (a virial becomes ``info["virial"]``); ``info["labels_from"]``
    says what was renamed. A label that is there under its own name stays. Warns, once for all
    frames, of names that look like a label which a frame has not (``MACE_forces``), and of two
    labels that differ.

    Args:
        frames: changed in place.
        place: for warnings, such as " in data.xyz".
    """
    unknown: Counter[str] = Counter()
    differing: Counter[str] = Counter()
    for atoms in frames:
        _take(atoms, unknown, differing)
    if unknown:
        names = ", ".join(f"{name} ({n} frames)" for name, n in unknown.items())
        warnings.warn(
            f"not used as labels{place}: {names}; rename what is meant as a label to energy, "
            "forces, stress, charges or dipole, or to REF_...",
            HFFWarning,
            stacklevel=3,
        )
    if differing:
        names = ", ".join(f"{name} ({n} frames)" for name, n in differing.items())
        warnings.warn(
            f"labels that differ from those under plain names{place}, which are used: {names}",
            HFFWarning,
            stacklevel=3,
        )
    return list(frames)


def _take(atoms: Atoms, unknown: Counter[str], differing: Counter[str]) -> None:
    results = dict(atoms.calc.results) if isinstance(atoms.calc, Calculator) else {}
    known = {name: value for name, value in results.items() if value is not None}
    if "virial" in atoms.info:
        known["virial"] = atoms.info["virial"]
    taken: dict[str, str] = {}
    doubtful: dict[str, list[str]] = {}
    if "energy" not in known and "free_energy" in known:
        results["energy"] = known["energy"] = known["free_energy"]
        taken["energy"] = "free_energy"
    for name, value in _candidates(atoms):
        prop, sure = meaning(name)
        if prop is None or (array := _fitting(prop, value, len(atoms))) is None:
            continue
        if not sure:
            doubtful.setdefault(prop, []).append(name)
        elif prop in known:
            before = _fitting(prop, known[prop], len(atoms))
            if before is None or not np.allclose(before, array, equal_nan=True):
                differing[name] += 1
        else:
            taken[prop], known[prop] = name, array
            atoms.info.pop(name, None)
            atoms.arrays.pop(name, None)
            if prop == "virial":
                atoms.info["virial"] = array
            else:
                results[prop] = float(array) if prop == "energy" else array
    for prop, names in doubtful.items():
        if not {prop, *ALIKE.get(prop, ())} & known.keys():
            unknown.update(names)
    if taken:
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info[FROM] = ", ".join(f"{prop}: {name}" for prop, name in sorted(taken.items()))


def _candidates(atoms: Atoms) -> list[tuple[str, Any]]:
    """Info entries and arrays other than ASE's own."""
    own = {"numbers", "positions", "momenta", "masses", "tags", "initial_charges", "virial"}
    both = [*atoms.info.items(), *atoms.arrays.items()]
    return [(str(name), value) for name, value in both if str(name) not in own]


def _fitting(prop: str, value: Any, n_atoms: int) -> np.ndarray | None:
    """The value as an array where it has the shape of the property, in ASE's form; else None."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    shapes = [(n_atoms, *PER_ATOM[prop])] if prop in PER_ATOM else SHAPES[prop]
    if array.shape not in shapes:
        return None
    if prop in ("stress", "virial") and array.size == 9:
        array = array.reshape(3, 3)
    return full_3x3_to_voigt_6_stress(array) if prop == "stress" and array.size == 9 else array
