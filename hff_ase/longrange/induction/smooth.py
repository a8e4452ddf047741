"""The smooth part of the lattice sum for charges and dipoles, by wave vectors: the reference.

A dipole is the source (mu . grad) of a charge. What a dipole does to itself through the smooth part
is taken out; a uniform background has no field, and surroundings conduct.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.ewald import EwaldPlan, ReciprocalEwald
from hff_ase.longrange.lattice import reciprocal_lattice

_Waves = tuple[Tensor, Tensor, Tensor, Tensor]


class SmoothDipoles(Protocol):
    """The smooth part at one configuration; zero for systems without a cell."""

    def field(self, charges: Tensor) -> Tensor:
        """Of charges [n_atoms], [n_atoms, 3] in e/A^2, without a graph."""

    def apply(self, dipoles: Tensor) -> Tensor:
        """T mu [n_atoms, 3], e/A^2, without a graph."""

    def energies(self, charges: Tensor, dipoles: Tensor) -> Tensor:
        """mu_i . (T mu/2 - F)_i [n_atoms], e^2/A, of fixed dipoles, differentiable in positions,
        cell and charges."""


def self_field(batch: AtomsBatch, alpha: float) -> Tensor:
    """What a dipole's field at its own place is to be less by, per dipole: [n_atoms, 1], 1/A^3."""
    own = 4.0 * alpha**3 / (3.0 * math.sqrt(math.pi))
    return own * batch.periodic[batch.system, None].double()


class WaveDipoles:
    """Exact sums over wave vectors, in the graph of positions and cell."""

    def __init__(self, batch: AtomsBatch, reciprocal: ReciprocalEwald, plan: EwaldPlan) -> None:
        self._batch, self._reciprocal, self._plan = batch, reciprocal, plan
        self._frozen: _Waves | None = None

    def _waves(self) -> _Waves:
        """cos, sin [system, atom, wave], zero where there is no atom, weight and k: in the graph,
        or the same for every product without one."""
        if torch.is_grad_enabled():
            return self._make()
        if self._frozen is None:
            self._frozen = self._make()
        return self._frozen

    def _make(self) -> _Waves:
        batch = self._batch
        cos, sin, weight = self._reciprocal.waves(batch, self._plan)
        present = batch.pad(torch.ones_like(batch.positions[:, 0]))[..., None]
        lattice = 2.0 * math.pi * reciprocal_lattice(batch.cell)[0]
        return cos * present, sin * present, weight, self._plan.index @ lattice

    def field(self, charges: Tensor) -> Tensor:
        """See `SmoothDipoles`."""
        with torch.no_grad():
            return -self._gradient(charges, None)

    def apply(self, dipoles: Tensor) -> Tensor:
        """See `SmoothDipoles`."""
        with torch.no_grad():
            own = self_field(self._batch, self._reciprocal.alpha) * dipoles
            return self._gradient(None, dipoles) - own

    def energies(self, charges: Tensor, dipoles: Tensor) -> Tensor:
        """See `SmoothDipoles`."""
        half = 0.5 * dipoles
        own = self_field(self._batch, self._reciprocal.alpha) * half
        return (dipoles * (self._gradient(charges, half) - own)).sum(1)

    def matrix(self) -> Tensor:
        """T [n_systems, 3 n, 3 n] with n the atoms of the largest system, in the graph."""
        batch = self._batch
        cos, sin, weight, k = self._waves()
        flat = (batch.n_systems, 3 * batch.max_count, -1)
        c = torch.einsum("snk,ska->snak", cos, k).reshape(flat)
        s = torch.einsum("snk,ska->snak", sin, k).reshape(flat)
        own = batch.pad(self_field(batch, self._reciprocal.alpha).expand(-1, 3)).flatten(1)
        return (c * weight[:, None]) @ c.mT + (s * weight[:, None]) @ s.mT - torch.diag_embed(own)

    def field_in_graph(self, charges: Tensor) -> Tensor:
        """`field` as a function of all that it depends on."""
        return -self._gradient(charges, None)

    def _gradient(self, charges: Tensor | None, dipoles: Tensor | None) -> Tensor:
        """Of the potential, [n_atoms, 3]: sum_k w k (cos S_sin - sin S_cos) over half space with
        S = sum (q + i k . mu) exp(i k r)."""
        batch = self._batch
        cos, sin, weight, k = self._waves()
        s_cos = s_sin = torch.zeros_like(weight)
        if charges is not None:
            q = batch.pad(charges)[:, None]
            s_cos, s_sin = (q @ cos)[:, 0], (q @ sin)[:, 0]
        if dipoles is not None:
            along = batch.pad(dipoles) @ k.mT  # [system, atom, wave]
            s_cos, s_sin = s_cos - (along * sin).sum(1), s_sin + (along * cos).sum(1)
        at_cos, at_sin = weight * s_cos, weight * s_sin
        return batch.unpad(cos @ (at_sin[..., None] * k) - sin @ (at_cos[..., None] * k))
