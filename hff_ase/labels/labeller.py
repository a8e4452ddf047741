"""What computes labels, and what a label is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from hff_ase.errors import ConfigError

__all__ = ["Label", "Labeller"]


@dataclass(frozen=True)
class Label:
    """What one calculation gave, in ASE's units.

    Attributes:
        status: "ok", or "failed" with the reason in ``info["error"]`` and no arrays.
        arrays: by name, each float64: ``energy`` [] eV, ``forces`` [n_atoms, 3] eV/A, ``stress``
            [3, 3] eV/A^3 (periodic only), ``charges`` [n_atoms] e and other charges as
            ``charges_<kind>``, ``dipole`` [3] e A and ``quadrupole`` [3, 3] e A^2 (second moments
            of the charge density, not traceless), both about the origin of the positions,
            ``esp_points`` [n_points, 3] A and ``esp`` [n_points] V, ``eda_<component>`` [] eV.
        info: JSON-able facts: method, versions, convergence, grids, wall time, threads.
    """

    status: str
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is a label."""
        return self.status == "ok"


class Labeller(Protocol):
    """A method that labels structures one by one; sent to worker processes, so picklable.

    One whose labels depend on more of a structure than elements, positions, cell and charge also
    has ``depends_on(atoms)``, which gives that as a JSON-able mapping.
    """

    @property
    def method(self) -> Mapping[str, Any]:
        """JSON-able settings on which the labels depend (not threads, not versions)."""

    def check(self, atoms: Atoms) -> None:
        """Refuse ``atoms`` that can never be labelled (before any work is done).

        Raises:
            StructureError: why not.
        """

    def label(self, atoms: Atoms, threads: int = 1) -> Label:
        """Label one structure; a calculation that does not converge is a failed label.

        Args:
            atoms: with ``info["charge"]``, and ``info["spin"]`` where there is one.
            threads: of this calculation.
        """


def failed(error: str, **info: Any) -> Label:
    """A label that could not be made."""
    return Label("failed", info={"error": " ".join(error.split())[:500], **info})


def job_key(atoms: Atoms, method: Mapping[str, Any]) -> str:
    """The identity of a calculation: a hash of structure, charge and method.

    Positions count to 1e-8 A, so that a round trip through extxyz is the same structure.
    """
    hashed = hashlib.sha256()
    cell = np.asarray(atoms.cell) if atoms.pbc.any() else np.zeros((3, 3))
    for array in (atoms.positions, cell, [float(atoms.info.get("charge", 0.0))]):
        # + 0.0 makes -0.0 into 0.0
        hashed.update((np.round(np.asarray(array, dtype="<f8"), 8) + 0.0).tobytes())
    hashed.update(np.asarray(atoms.numbers, dtype="<i8").tobytes())
    hashed.update(bytes(atoms.pbc.tolist()))
    hashed.update(json.dumps(method, sort_keys=True).encode())
    return hashed.hexdigest()[:32]


def label_key(atoms: Atoms, labeller: Labeller) -> str:
    """The identity of a label: of its calculation, and of what else the labeller looks at."""
    depends_on = getattr(labeller, "depends_on", None)
    more = {} if depends_on is None else depends_on(atoms)
    return job_key(atoms, {**labeller.method, **more})


def check_threads(threads: int) -> None:
    """Refuse an invalid number of threads."""
    if threads < 1:
        raise ConfigError(f"expected at least 1 thread per worker, got {threads}")
