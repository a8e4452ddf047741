"""Clusters of whole molecules around chosen ones, cut out of periodic boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from vesin import NeighborList

from hff_ase.errors import ConfigError, StructureError
from hff_ase.labels.electrons import check_electrons
from hff_ase.labels.molecules import (
    Molecules,
    count_elements,
    find_molecules,
    formal_charge,
)

__all__ = ["clusters_of", "cut_clusters"]

Image = tuple[int, int, int, int]  # a molecule and the cell shift of its image


def cut_clusters(
    atoms: Atoms,
    around: str | Sequence[int] | None = None,
    *,
    min_atoms: int = 2,
    max_atoms: int = 40,
    radius: float = 6.0,
    charges: Mapping[str, int] | None = None,
    seed: int | None = None,
) -> list[Atoms]:
    """Cut one cluster around each chosen molecule of a structure.

    A cluster is the chosen molecule and, nearest first (by the closest pair of atoms), whole
    molecules within ``radius``, until the next would exceed ``max_atoms``.

    Args:
        atoms: a box or a molecule; ``arrays["molecule"]`` is used where it is there.
        around: an element ("Li": every molecule that contains it), a formula ("PF6"), indices of
            atoms, or None for every molecule.
        min_atoms, max_atoms: sizes; smaller clusters are left out.
        radius: how far, in Angstrom, an atom of a molecule may be from the chosen one.
        charges: formal charges of molecules by formula, e, over the built-in ones of common ions.
        seed: where given, each cluster's largest size is drawn between the two limits, so that
            pairs, shells and larger clusters all occur.

    Returns:
        Clusters without a cell, centre of mass at the origin, the chosen molecule first;
        ``arrays["molecule"]`` numbers the molecules, ``info`` holds ``charge`` (e), ``center``
        (formula), ``molecules`` (formulas) and ``cut_from`` (the box's source, where known).

    Raises:
        ConfigError: limits that allow nothing, or ``around`` that is no formula or index.
        StructureError: odd electron count; nothing to cut around; a molecule without an end.
    """
    if not 0 < min_atoms <= max_atoms:
        raise ConfigError(f"expected 0 < min_atoms <= max_atoms, got {min_atoms} and {max_atoms}")
    if not 0 < radius < np.inf:
        raise ConfigError(f"expected a radius above 0 Angstrom, got {radius!r}")
    molecules = find_molecules(atoms)
    centres = _centres(atoms, molecules, around)
    rng = None if seed is None else np.random.default_rng(seed)
    neighbours = _neighbours(atoms, molecules, centres, radius)
    clusters = []
    for centre in centres:
        limit = max_atoms if rng is None else int(rng.integers(min_atoms, max_atoms + 1))
        images = _grow(centre, molecules, neighbours.get(centre, []), limit)
        if images is None:
            continue
        cluster = _cluster(atoms, molecules, images, charges)
        if len(cluster) >= min_atoms:
            clusters.append(cluster)
    return clusters


def _centres(atoms: Atoms, molecules: Molecules, around: str | Sequence[int] | None) -> list[int]:
    """The molecules to cut around."""
    if around is None:
        return list(range(len(molecules.members)))
    if not isinstance(around, str):
        indices = np.asarray(around)
        if indices.dtype.kind not in "iu" or (indices < 0).any() or (indices >= len(atoms)).any():
            raise ConfigError(f"expected indices of the {len(atoms)} atoms, got {around!r}")
        return sorted({int(molecules.index[k]) for k in indices})
    count_elements(around)  # says what is wrong where it is no formula
    found = [k for k, formula in enumerate(molecules.formulas) if _matches(formula, around)]
    if not found:
        present = ", ".join(sorted(set(molecules.formulas)))
        raise StructureError(f"expected molecules of {around!r} to cut around, got {present}")
    return found


def _neighbours(
    atoms: Atoms, molecules: Molecules, centres: list[int], radius: float
) -> dict[int, list[tuple[float, Image]]]:
    """For each centre the images of molecules within the radius and how near they come."""
    search = NeighborList(cutoff=float(radius), full_list=True)
    first, second, shift, distance = search.compute(
        points=atoms.positions,
        box=np.asarray(atoms.cell) if atoms.pbc.all() else np.zeros((3, 3)),
        periodic=bool(atoms.pbc.all()),
        quantities="ijSd",
    )
    ours = np.isin(molecules.index[first.astype(np.int64)], centres)
    first, second = first.astype(np.int64)[ours], second.astype(np.int64)[ours]
    shift, distance = shift[ours], distance[ours]
    # the pair goes to atom j moved by S; seen from whole molecules, j's image is moved by this
    moved = shift.astype(np.int64) + molecules.offsets[first] - molecules.offsets[second]
    nearest: dict[int, dict[Image, float]] = {}
    for i, j, T, d in zip(first, second, moved, distance, strict=True):
        centre, image = int(molecules.index[i]), (int(molecules.index[j]), *map(int, T))
        if image == (centre, 0, 0, 0):
            continue
        known = nearest.setdefault(centre, {})
        known[image] = min(known.get(image, np.inf), float(d))  # type: ignore[index, arg-type]
    return {
        centre: sorted((d, image) for image, d in images.items())
        for centre, images in nearest.items()
    }


def _grow(
    centre: int, molecules: Molecules, near: list[tuple[float, Image]], limit: int
) -> list[Image] | None:
    """Images of molecules from the centre outwards, up to `limit` atoms; None if none fits."""
    size = len(molecules.members[centre])
    if size > limit:
        return None
    images: list[Image] = [(centre, 0, 0, 0)]
    for _, image in near:
        size += len(molecules.members[image[0]])
        if size > limit:
            break  # taking a farther but smaller one would leave a hole
        images.append(image)
    return images


def _cluster(
    atoms: Atoms, molecules: Molecules, images: list[Image], charges: Mapping[str, int] | None
) -> Atoms:
    """The images as one structure without a cell."""
    parts, ids, total = [], [], 0
    for number, (k, *shift) in enumerate(images):
        members = molecules.members[k]
        offset = molecules.offsets[members] + np.array(shift)
        part = Atoms(
            atoms.numbers[members], atoms.positions[members] + offset @ np.asarray(atoms.cell)
        )
        charge = formal_charge(molecules.formulas[k], charges)
        check_electrons(part, charge, f"the molecule of atoms {members[:4].tolist()}...")
        total += charge
        parts.append(part)
        ids += [number] * len(members)
    cluster = Atoms(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.positions for part in parts]),
    )
    cluster.positions -= cluster.get_center_of_mass()
    cluster.arrays["molecule"] = np.array(ids)
    formulas = [molecules.formulas[k] for k, *_ in images]
    cluster.info = {"charge": total, "center": formulas[0], "molecules": " ".join(formulas)}
    if "source" in atoms.info:
        cluster.info["cut_from"] = str(atoms.info["source"])
    return cluster


def clusters_of(
    frames: Sequence[Atoms],
    around: Sequence[str] | None = None,
    *,
    seed: int | None = None,
    **limits: Any,
) -> Iterator[Atoms]:
    """Clusters of many frames around several kinds of molecules; frames without one are passed.

    Args:
        frames: boxes; ``cut_from`` of a cluster is its frame's source, or the frame's number.
        around: elements and formulas; None or none for every molecule.
        seed: as for `cut_clusters`, other numbers for each frame.
        limits: the other arguments of `cut_clusters`.

    Raises:
        StructureError: no frame has what is to be cut around.
    """
    kinds: list[str | None] = list(around) if around else [None]
    seen = dict.fromkeys(kinds, False)
    for number, frame in enumerate(frames):
        formulas = find_molecules(frame).formulas
        for kind in kinds:
            if kind is not None and not any(_matches(formula, kind) for formula in formulas):
                continue
            seen[kind] = True
            frame_seed = None if seed is None else seed + number
            for cluster in cut_clusters(frame, kind, seed=frame_seed, **limits):
                cluster.info.setdefault("cut_from", f"frame:{number}")
                yield cluster
    missing = [kind for kind, found in seen.items() if not found]
    if missing:
        raise StructureError(
            f"expected molecules of {missing[0]!r} in the frames to cut around, got none"
        )


def _matches(formula: str, kind: str) -> bool:
    """Whether a molecule contains the element, or is of the formula."""
    counts = count_elements(formula)
    return kind in counts if kind in atomic_numbers else counts == count_elements(kind)
