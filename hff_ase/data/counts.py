"""The numbers of frames with each label, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from hff_ase.data.labels import result_of
from hff_ase.data.synonyms import FROM

LABELS = ("energy", "forces", "stress", "charges", "dipole", "esp")


def label_counts(frames: Sequence[Atoms]) -> dict[str, int]:
    """Number of frames with each label; a label that is all NaN counts as missing."""
    return {name: sum(_has(atoms, name) for atoms in frames) for name in LABELS}


def described(frames: Sequence[Atoms]) -> str:
    """A line such as "120 frames: energy 120, forces 120 (REF_forces), stress 0"."""
    sources: dict[str, Counter[str]] = {}
    for atoms in frames:
        for part in str(atoms.info.get(FROM, "")).split(", "):
            prop, _, name = part.partition(": ")
            # a virial has become a stress
            sources.setdefault("stress" if prop == "virial" else prop, Counter())[name] += 1
    parts = []
    for name, count in label_counts(frames).items():
        taken = "/".join(sources.get(name, {}))
        if count or name in ("energy", "forces", "stress"):
            parts.append(f"{name} {count}" + (f" (from {taken})" if taken else ""))
    return f"{len(frames)} frames: {', '.join(parts)}"


def _has(atoms: Atoms, name: str) -> bool:
    if name == "esp":
        return "esp" in atoms.info and "esp_points" in atoms.info
    value = result_of(atoms, name)
    return value is not None and not bool(np.isnan(np.asarray(value, dtype=np.float64)).all())
