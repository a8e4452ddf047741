"""Term: the contract that every part of a hybrid force field keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest

__all__ = ["Term"]

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
        parts: names of parts of the energy that can be left out (`Neighborhood.leaves_out`).
        note: what somebody should know of a model with this term before using it, or "" (see
            `note_for`).
    """

    kind: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ()
    owns_coulomb: ClassVar[bool] = False
    parts: ClassVar[tuple[str, ...]] = ()
    note: ClassVar[str] = ""

    @classmethod
    def note_for(cls, arguments: Mapping[str, Any]) -> str:
        """The note where the term has these constructor arguments."""
        return cls.note

    @property
    def remembers(self) -> bool:
        """Whether results along a trajectory start from the solutions of its last steps."""
        return False

    def requests(self) -> tuple[PairRequest, ...]:
        """The pair lists that `forward` will ask for."""
        return ()

    @property
    def cutoff(self) -> float:
        """The largest finite cutoff asked for, Angstrom."""
        return max((r.cutoff for r in self.requests() if r.kind != "isolated"), default=0.0)

    def declared(self) -> dict[str, Declared]:
        """What the term's physical parameters are, by their names among `named_parameters` or
        `constants`."""
        return {}

    def constants(self) -> dict[str, str]:
        """Declared parameters that are plain numbers or buffers: name -> place among the attributes
        (`hff_ase.constants`). The reference operations must take tensors there."""
        return {}

    @property
    def reach(self) -> float:
        """How far from an atom other atoms have a part in its energy, Angstrom: how deep ghosts
        must be for `owned` energies without a halo."""
        return self.cutoff

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """Why energies of only some atoms (`Neighborhood.owned`) are unavailable; None if they are
        available."""
        return None

    def prepare(self, batch: AtomsBatch) -> Any:
        """Data that can be kept until neighbours are next searched; read by `neighbors.plan`."""
        return None

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Set the precision of the term's networks; tables and sums stay in float64."""

    def config(self) -> dict[str, Any]:
        """JSON-able constructor arguments: ``type(term)(**term.config())`` is the same term."""
        raise NotImplementedError

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms] in eV (half of each pair to either atom)."""
        raise NotImplementedError
