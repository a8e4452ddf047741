"""The smooth part of 1/r in a periodic box, by whatever method."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.halo import Halo
from hff_ase.longrange.ewald import ReciprocalEwald
from hff_ase.longrange.lattice import SmoothSum
from hff_ase.longrange.mesh_sum import MeshSum
from hff_ase.longrange.pme import ReciprocalPME


class ReciprocalSum(Protocol):
    """The smooth part of 1/r in a periodic box, by whatever method."""

    def prepare(self, batch: AtomsBatch) -> Any:
        """Choose wave vectors or a mesh; kept until the next rebuild of the neighbour list."""

    def potential(self, batch: AtomsBatch, charges: Tensor, plan: Any) -> Tensor:
        """phi [n_atoms] in e/Angstrom, self-interaction included."""

    def explicit(
        self,
        batch: AtomsBatch,
        charges: Tensor,
        plan: Any,
        halo: Halo | None = None,
        made: list[MeshSum] | None = None,
    ) -> SmoothSum:
        """The same with the derivatives of its energy, without a graph; with a halo of the own
        atoms of one process among the charges of all. A sum over meshes is added to ``made``."""


def reciprocal_sum(method: str, alpha: float, tolerance: float) -> ReciprocalSum:
    """The summation method of a name.

    Raises:
        ConfigError: another name.
    """
    if method == "ewald":
        return ReciprocalEwald(alpha, tolerance)
    if method == "pme":
        return ReciprocalPME(alpha, tolerance)
    raise ConfigError(f"expected the Coulomb method 'ewald' or 'pme', got {method!r}")
