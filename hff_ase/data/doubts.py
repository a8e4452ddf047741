"""Suspicious but possible labels: reported in a warning, and used anyway."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from hff_ase.data.labels import result_of, source_of
from hff_ase.stated import charge_doubt

NET_FORCE = 0.05  # eV/A per atom; grids and unfinished cycles of DFT leave a tenth of it
PLACEHOLDERS = ("forces", "stress", "charges")


def doubts(frames: Sequence[Atoms]) -> list[str]:
    """What to say of labelled frames, in words: zeros instead of labels that are missing, forces
    that move a whole system, total charges that do not fit the molecules."""
    found = [_zeros(frames, name) for name in PLACEHOLDERS]
    found += [_net_forces(frames), _charges(frames)]
    return [message for message in found if message]


def repeated(frames: Sequence[Atoms], others: Sequence[Atoms]) -> list[Atoms]:
    """Frames that also occur among others: the same atoms at the same positions, to 1e-6 A."""
    known = {_place(atoms) for atoms in others}
    return [atoms for atoms in frames if _place(atoms) in known]


def leak(held_out: Sequence[Atoms], trained_on: Sequence[Atoms], what: str) -> str | None:
    """A message if held-out frames are also trained on; None if they are not.

    Isolated atoms, which have one place only, do not count.
    """
    systems = [atoms for atoms in held_out if len(atoms) > 1]
    found = repeated(systems, trained_on)
    if not found:
        return None
    return (
        f"{len(found)} of {len(systems)} {what} frames are also trained on (first: "
        f"{source_of(found[0])}): errors on them say nothing about other structures"
    )


def _place(atoms: Atoms) -> bytes:
    cell = atoms.cell.array.round(6) + 0.0  # no minus zero
    return atoms.numbers.tobytes() + cell.tobytes() + (atoms.positions.round(6) + 0.0).tobytes()


def _zeros(frames: Sequence[Atoms], name: str) -> str | None:
    """Labels that are exactly zero, which codes and converters write for what was not computed."""
    labelled = [a for a in frames if len(a) > 1 and result_of(a, name) is not None]
    if name == "stress":  # that of a molecule is not used
        labelled = [a for a in labelled if a.pbc.all()]
    zero = [a for a in labelled if not np.any(result_of(a, name))]
    if not zero or len(zero) == len(labelled) == 1:
        return None
    return (
        f"{name} are zero in {len(zero)} of {len(labelled)} frames (first: {source_of(zero[0])}): "
        f"if they were not computed, leave them out"
    )


def _net_forces(frames: Sequence[Atoms]) -> str | None:
    found, largest = [], 0.0
    for atoms in frames:
        forces = result_of(atoms, "forces")
        if forces is not None and len(atoms) > 1:
            net = float(np.linalg.norm(np.sum(forces, axis=0))) / len(atoms)
            if net > NET_FORCE:
                found.append(atoms)
                largest = max(largest, net)
    if not found:
        return None
    return (
        f"forces do not sum to zero in {len(found)} of {len(frames)} frames (first: "
        f"{source_of(found[0])}; up to {largest:.2g} eV/A per atom), as those of every model here "
        "do: fixed atoms, a surrounding that is not in the frame, or a calculation that went wrong?"
    )


def _charges(frames: Sequence[Atoms]) -> str | None:
    looked_at: dict[tuple[bytes, str], str | None] = {}
    found, first = [], ""
    for atoms in frames:
        key = (atoms.numbers.tobytes(), str(atoms.info.get("charge")))
        if key not in looked_at:
            looked_at[key] = charge_doubt(atoms)
        if doubt := looked_at[key]:
            found.append(atoms)
            first = first or doubt
    if not found:
        return None
    return f"in {len(found)} frames (first: {source_of(found[0])}): {first}"
