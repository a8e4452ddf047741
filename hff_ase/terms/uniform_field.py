r"""A uniform external electric field, constant or a cosine in time.

.. math:: E = -\mathbf{M} \cdot \mathbf{F}, \qquad
    \mathbf{M} = \sum_m Q_m \mathbf{R}_m + \sum_{i \in m} \tilde q_i (\mathbf{r}_i - \mathbf{R}_m)

with molecules m of formal charge Q and charges q~ that are given back evenly within each molecule,
so that they sum to Q. Charges of models that only keep the total flow between distant molecules:
of raw charges sum(q r) depends on which image each molecule is in, and so would the forces, through
the response of the charges. With q~ another image of a molecule changes M by Q times a lattice
vector, which has no derivative. As sum(q~) = Q, M is sum(q~ r) of whole molecules and needs no R.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from ase.formula import Formula
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.neighborhood import Neighborhood
from hff_ase.reduce import segment_sum
from hff_ase.terms.term import Fields, Term

OFF = 1e-6  # e: more than rounding between molecules' formal charges and the total


@dataclass(frozen=True)
class WholeMolecules:
    """Molecules as the field needs them.

    Attributes:
        shifts: [n_atoms, 3], lattice vectors that make molecules whole.
        formal: [n_molecules], e.
        counts: [n_molecules], atoms.
    """

    shifts: Tensor
    formal: Tensor
    counts: Tensor


class UniformField(Term):
    """A field F cos(2 pi f t) on charges that give each molecule its formal charge.

    Forces do not depend on images of molecules. Energy and stress do where molecules carry charge:
    a charge that crosses the boundary has gone down the field by a cell, and its virial has no
    limit; sample such liquids at constant volume, and conserve no energy over a boundary.

    Args:
        field: F, V/Angstrom, three components.
        ions: formal charges by formula, such as ``{"Li": 1, "PF6": -1}``; others are neutral.
        frequency: f, THz; 0: constant.

    Attributes:
        time: t, ps, a tensor [] kept up to date by the integrator.

    Raises:
        ConfigError: not three finite components, a frequency below zero, or no such formula.
    """

    kind = "uniform_field"
    needs = ("charges",)
    time: Tensor

    def __init__(
        self,
        field: Sequence[float] = (0.0, 0.0, 0.0),
        ions: Mapping[str, float] | None = None,
        frequency: float = 0.0,
    ) -> None:
        super().__init__()
        if len(field) != 3 or not all(math.isfinite(one) for one in field):
            raise ConfigError(f"expected a field of three components in V/A, got {list(field)}")
        if not 0 <= frequency < math.inf:
            raise ConfigError(f"expected a frequency of at least 0 THz, got {frequency:g}")
        self.field, self.frequency = tuple(float(one) for one in field), float(frequency)
        self.ions = dict(ions or {})
        self._known = {_contents(formula): float(q) for formula, q in self.ions.items()}
        self.register_buffer("time", torch.zeros((), dtype=torch.float64), persistent=False)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"field": list(self.field), "ions": self.ions, "frequency": self.frequency}

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """Charges are projected within molecules."""
        return "its molecules must be whole"

    def prepare(self, batch: AtomsBatch) -> WholeMolecules:
        """Which images make molecules whole, and what each of them carries.

        Raises:
            StructureError: no molecules, or formal charges that do not sum to the total charge.
        """
        if batch.molecule is None:
            raise StructureError(
                "expected the molecule of each atom for an electric field (atoms.arrays"
                "['molecule'], as hff build writes it), got none"
            )
        molecule = batch.molecule.cpu().numpy()
        counts = np.bincount(molecule, minlength=batch.n_molecules)
        order = np.argsort(molecule, kind="stable")
        groups = np.split(order, np.cumsum(counts)[:-1])
        system = batch.system.cpu().numpy()
        owner = system[[group[0] for group in groups]]
        formal = self._formal(batch, groups)
        off = np.bincount(owner, formal, minlength=batch.n_systems) - batch.charge.cpu().numpy()
        if np.abs(off).max() > OFF:
            worst = int(np.abs(off).argmax())
            raise StructureError(
                f"expected molecules whose formal charges sum to the total charge, got "
                f"{off[worst]:+g} e too much in structure {worst}: name the ions with their charges"
            )
        positions, cells = batch.positions.detach().cpu().numpy(), batch.cell.detach().cpu().numpy()
        shifts = np.zeros_like(positions)
        periodic = batch.periodic.cpu().numpy()
        for size in np.unique(counts[counts > 1]):
            chosen = [m for m in np.flatnonzero(counts == size) if periodic[owner[m]]]
            if chosen:
                rows = np.stack([groups[m] for m in chosen])
                shifts[rows] = _whole(positions[rows], cells[owner[chosen]])

        def to(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float64, device=batch.positions.device)

        return WholeMolecules(to(shifts), to(formal), to(counts))

    def _formal(self, batch: AtomsBatch, groups: Sequence[np.ndarray]) -> np.ndarray:
        """Formal charge of each molecule [n_molecules], e."""
        numbers = batch.numbers.cpu().numpy()
        seen: dict[bytes, float] = {}
        found = []
        for group in groups:
            contents = np.sort(numbers[group])
            key = contents.tobytes()
            if key not in seen:
                symbols = [chemical_symbols[z] for z in contents]
                seen[key] = self._known.get(_contents(str(Formula.from_list(symbols))), 0.0)
            found.append(seen[key])
        return np.array(found)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV, which sum to -q~ r . F of whole molecules."""
        plan: WholeMolecules = neighbors.plan(self)
        molecule = batch.molecule
        if molecule is None:
            raise StructureError("expected the molecule of each atom, got none")
        charges = fields["charges"]
        total = segment_sum(charges, molecule, len(plan.counts))
        projected = charges + ((plan.formal - total) / plan.counts)[molecule]
        images = torch.einsum("nx,nxy->ny", plan.shifts, batch.cell[batch.system])
        field = batch.positions.new_tensor(self.field)
        if self.frequency:
            field = field * torch.cos(2 * math.pi * self.frequency * self.time)
        places = batch.positions + images
        centres = segment_sum(places, molecule, len(plan.counts)) / plan.counts[:, None]
        # dipoles about centres, which no image changes, and the charges of molecules there
        inner = projected * ((places - centres[molecule]) @ field)
        outer = (plan.formal / plan.counts * (centres @ field))[molecule]
        return -(inner + outer)


def clocks_of(potential: Any) -> list[Tensor]:
    """Times, ps, [] each, that the terms of a potential follow, to be written into."""
    terms = [term for _, term in getattr(potential, "named_terms", list)()]
    return [term.time for term in terms if isinstance(term, UniformField) and term.frequency]


def _contents(formula: str) -> tuple[tuple[str, int], ...]:
    """The contents of a formula, independent of order.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return tuple(sorted(Formula(formula).count().items()))
    except ValueError:
        raise ConfigError(f"expected the formula of an ion, got {formula!r}") from None


def _whole(positions: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Lattice vectors [m, n, 3] that make m molecules of n atoms whole.

    Each atom joins the nearest one that has joined before, by the nearest image (Prim's tree):
    bonds are shorter than half a cell, molecules need not be.

    Args:
        positions: [m, n, 3], Angstrom.
        cells: [m, 3, 3].
    """
    m, n, _ = positions.shape
    fractional = positions @ np.linalg.inv(cells)
    apart = fractional[:, None, :, :] - fractional[:, :, None, :]  # [m, from, to, 3]
    images = -np.round(apart)
    distance = np.linalg.norm(np.einsum("mftx,mxy->mfty", apart + images, cells), axis=-1)
    shifts, rows = np.zeros((m, n, 3)), np.arange(m)
    joined = np.zeros((m, n), dtype=bool)
    joined[:, 0] = True
    nearest, parent = distance[:, 0].copy(), np.zeros((m, n), dtype=int)
    for _ in range(n - 1):
        new = np.where(joined, np.inf, nearest).argmin(axis=1)
        old = parent[rows, new]
        shifts[rows, new] = shifts[rows, old] + images[rows, old, new]
        joined[rows, new] = True
        closer = distance[rows, new] < nearest
        nearest = np.where(closer, distance[rows, new], nearest)
        parent = np.where(closer, new[:, None], parent)
    return shifts
