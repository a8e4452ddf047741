"""Term: the contract that every part of a hybrid force field keeps."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hff_ase.batch import AtomsBatch
from hff_ase.neighbors import Neighborhood, PairRequest

Fields = dict[str, Tensor]


class Term(nn.Module):
    """One contribution to the energy.

    A term reads the per-atom ``fields`` named in ``needs``, adds those named in ``gives`` (see
    `hff_ase.fields`), and returns atomic energies. It is differentiable in positions and cell,
    twice where it has trainable parameters, never changes its input, and gives exactly zero for
    pairs beyond its cutoff.

    Class attributes:
        kind: the name under which checkpoints and configs know the class.
        needs, gives: field names.
        owns_coulomb: the term's energy contains the Coulomb energy of the charges it gives.
    """

    kind: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ()
    owns_coulomb: ClassVar[bool] = False

    def requests(self) -> tuple[PairRequest, ...]:
        """The pair lists that `forward` will ask for."""
        return ()

    @property
    def cutoff(self) -> float:
        """The largest finite cutoff asked for, Angstrom."""
        return max((r.cutoff for r in self.requests() if r.kind != "molecule"), default=0.0)

    def prepare(self, batch: AtomsBatch) -> Any:
        """Whatever can be kept until neighbours are next searched; read by `neighbors.plan`."""
        return None

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Set the precision of the term's networks; tables and sums stay in float64."""

    def config(self) -> dict[str, Any]:
        """JSON-able constructor arguments: ``type(term)(**term.config())`` is the same term."""
        raise NotImplementedError

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms] in eV (half of each pair to either atom)."""
        raise NotImplementedError
