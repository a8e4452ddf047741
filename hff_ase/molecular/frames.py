"""Local frames of atoms, which moments of molecules turn with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.molecular.assignment import Assignment, nearest_vectors
from hff_ase.molecular.templates import Templates

KINDS = ("z_then_x", "bisector", "axial", "axial_and_lab", "lab")
PARTNERS = {"z_then_x": 2, "bisector": 2, "axial": 1, "axial_and_lab": 1, "lab": 0}
SHORTEST = 1e-8  # of a vector that gives a direction: three atoms in a line give no second axis


class Frames(NamedTuple):
    """Frames of one kind in a batch: their ``atoms`` [n, 1 + partners] (the atom itself, z, x) and
    the ``share`` [n] that each has in the atom's moments."""

    atoms: Tensor
    share: Tensor


class FrameList:
    """The frames of templates.

    An atom may have several frames, as where one of its axes points to any of several equivalent
    neighbours: its moments are then the mean over them. One that has none is a charge only.

    Args:
        templates: the molecules.
        entries: their configurations, each with ``frames``: rows [kind, atom, z, x] with a kind of
            `KINDS`; z and x are left out where the kind has none.

    Raises:
        ConfigError: names a row that cannot be.
    """

    def __init__(self, templates: Templates, entries: Sequence[Mapping[str, Any]]) -> None:
        self._rows: list[list[tuple[Any, ...]]] = []
        for template, entry in zip(templates.molecules, entries, strict=True):
            rows = [tuple(row) for row in entry.get("frames", ())]
            for row in rows:
                _check(row, template.name, len(template.numbers))
            self._rows.append(rows)
        self._atoms = {kind: [self._of(rows, kind) for rows in self._rows] for kind in KINDS}
        self._shares = {kind: [_shares(rows, kind) for rows in self._rows] for kind in KINDS}

    @staticmethod
    def _of(rows: Sequence[tuple[Any, ...]], kind: str) -> np.ndarray:
        atoms = [row[1:] for row in rows if row[0] == kind]
        return np.array(atoms, dtype=np.int64).reshape(-1, 1 + PARTNERS[kind])

    def config(self) -> list[list[list[Any]]]:
        """Rows of each template."""
        return [[list(row) for row in rows] for rows in self._rows]

    def of(self, found: Assignment) -> dict[str, Frames]:
        """The frames of a batch by their kind; kinds that do not occur are left out."""
        frames = {
            kind: Frames(found.listed(self._atoms[kind]), found.tiled(self._shares[kind]))
            for kind in KINDS
        }
        return {kind: own for kind, own in frames.items() if len(own.share)}


def axes(batch: AtomsBatch, kind: str, atoms: Tensor) -> Tensor:
    """Unit vectors x, y, z as rows, [n, 3, 3], for atoms [n, 1 + partners] of one kind.

    - ``z_then_x``: z points to the first partner, x to the second, less what lies along z.
    - ``bisector``: z halves the angle between the two, x points to the second.
    - ``axial``: z points to the partner; x and y are of no meaning (nothing may depend on them).
    - ``axial_and_lab``: the same with x towards the x axis of space, or towards its y axis where z
      is within 60 degrees of x: moments across z then do not turn with the molecule.
    - ``lab``: the axes of space.
    """
    one = torch.eye(3, dtype=batch.positions.dtype, device=batch.device)
    if kind == "lab":
        return one.expand(len(atoms), 3, 3)
    z = _unit(nearest_vectors(batch, atoms[:, 0], atoms[:, 1]))
    if PARTNERS[kind] == 2:
        x = nearest_vectors(batch, atoms[:, 0], atoms[:, 2])
        if kind == "bisector":
            z = _unit(z + _unit(x))
    else:
        near_x = (z[:, :1].detach().abs() > 0.5).long()[:, 0]
        x = one[near_x]
    x = _unit(x - (x * z).sum(1, keepdim=True) * z)
    return torch.stack([x, torch.linalg.cross(z, x), z], 1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=SHORTEST)


def _check(row: tuple[Any, ...], name: str, n_atoms: int) -> None:
    kind = row[0] if row else None
    atoms = row[1:]
    good = kind in PARTNERS and len(atoms) == 1 + PARTNERS[kind] == len(set(atoms))
    if not good or any(not 0 <= int(k) < n_atoms for k in atoms):
        raise ConfigError(
            f"expected frames of {name!r} as [kind, atom, partners] with a kind among "
            f"{', '.join(KINDS)} (of {', '.join(str(PARTNERS[k]) for k in KINDS)} partners) and "
            f"different atoms below {n_atoms}, got {list(row)}"
        )


def _shares(rows: Sequence[tuple[Any, ...]], kind: str) -> np.ndarray:
    count = [sum(other[1] == row[1] for other in rows) for row in rows if row[0] == kind]
    return 1.0 / np.array(count, dtype=np.float64)
