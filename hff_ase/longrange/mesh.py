"""Meshes for a batch of boxes: their shapes, and the influence function in reciprocal space.

The influence function is the one of P3M that minimises the error of the energy (Hockney &
Eastwood; Ballenegger et al., J. Chem. Theory Comput. 8, 936 (2012)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.bspline import Grid
from hff_ase.longrange.inverse_power import wave_weight
from hff_ase.longrange.lattice import reciprocal_lattice

# Even sizes without large prime factors, about a tenth apart: a liquid that breathes stays on one
# mesh, and boxes of about the same size share one batched transform. 8, 10, 12, 14, 16 ... 960
LADDER = tuple(
    sorted(
        base << doublings
        for base in (7, 8, 9, 10, 11, 12, 15)
        for doublings in range(7)
        if base << doublings >= 8 and (base % 2 == 0 or doublings > 0)
    )
)


def mesh_size(length: float, spacing: float) -> int:
    """Points along a lattice vector (or the distance of two faces) of this length, Angstrom."""
    wanted = length / spacing
    for size in LADDER:
        if size >= wanted:
            return size
    return 2 * math.ceil(wanted / 2)


@dataclass
class KnownInfluence:
    """The last cells of a group and their influence function of one power; empty at first."""

    cell: Tensor | None = None
    power: int = 1
    influence: Tensor | None = None


@dataclass(frozen=True)
class MeshGroup:
    """Systems that share a mesh shape.

    Attributes:
        systems: int64 [n_group], atoms: int64 [n_group_atoms], their indices in the batch; None
            where the group is the whole batch.
        grid: their meshes.
        size: the mesh shape, float64 [3].
        numbers: integer wave numbers along each axis, float64 [size] (the last one halved).
        damping: B-spline part of the influence function along each axis, float64 [size].
        splines: their product on the half spectrum, 0 at k = 0.
        multiplicity: how many of +-k each entry of the half spectrum stands for, float64.
        basis: [n_group, 3, 3], see `hff_ase.longrange.reduction`; None where all are the identity.
        known: what is kept while the cells stay unchanged.
    """

    systems: Tensor | None
    atoms: Tensor | None
    grid: Grid
    size: Tensor
    numbers: tuple[Tensor, Tensor, Tensor]
    damping: tuple[Tensor, Tensor, Tensor]
    splines: Tensor
    multiplicity: Tensor
    basis: Tensor | None = None
    known: KnownInfluence = field(default_factory=KnownInfluence, compare=False)

    def of_atoms(self, per_atom: Tensor) -> Tensor:
        """The group's part of a per-atom quantity of the batch."""
        return per_atom if self.atoms is None else per_atom[self.atoms]

    def of_systems(self, per_system: Tensor) -> Tensor:
        """The group's part of a per-system quantity of the batch."""
        return per_system if self.systems is None else per_system[self.systems]

    def lattice(self, cell: Tensor) -> Tensor:
        """Lattice vectors that the meshes lie along [n_group, 3, 3], from the batch's cells."""
        own = self.of_systems(cell)
        return own if self.basis is None else self.basis @ own

    def mesh_units(self, positions: Tensor, reciprocal: Tensor) -> Tensor:
        """u [n_group_atoms, 3]: fractional coordinates times the mesh size."""
        if self.grid.n_systems == 1:
            return positions @ (reciprocal[0].mT * self.size)
        return torch.einsum("na,nba->nb", positions, reciprocal[self.grid.system]) * self.size

    def influence(self, cell: Tensor, alpha: float, power: int = 1) -> Tensor:
        """The influence function of cells [n_group, 3, 3], recomputed only if they changed.

        To compare cells on a GPU would wait for it, and computing is cheap there: nothing is kept.
        """
        if cell.device.type != "cpu" or cell.requires_grad:
            return influence_function(self, *reciprocal_lattice(cell), alpha, power)
        known = self.known
        same = known.cell is not None and known.power == power and torch.equal(known.cell, cell)
        if known.influence is None or not same:
            known.cell, known.power = cell.clone(), power
            known.influence = influence_function(self, *reciprocal_lattice(cell), alpha, power)
        return known.influence


def group_systems(
    batch: AtomsBatch,
    shape: tuple[int, int, int],
    members: list[int],
    order: int,
    basis: Tensor | None = None,
) -> MeshGroup:
    """The group of the systems ``members`` of a batch, on meshes of one shape.

    Args:
        basis: of all systems of the batch (`hff_ase.longrange.reduction.reductions`).
    """
    systems = atoms = None
    local = batch.system
    if len(members) < batch.n_systems:
        systems = torch.tensor(members, device=batch.device)
        rank = torch.full((batch.n_systems,), -1, device=batch.device)
        rank[systems] = torch.arange(len(members), device=batch.device)
        atoms = torch.nonzero(rank[batch.system] >= 0)[:, 0]
        local = rank[batch.system[atoms]]
    last = torch.arange(shape[2] // 2 + 1, dtype=torch.float64)
    numbers = (signed_numbers(shape[0]), signed_numbers(shape[1]), last)
    b1, b2, b3 = (spline_damping(m, n, order) for m, n in zip(numbers, shape, strict=True))
    splines = (b1[:, None, None] * b2[:, None]) * b3
    splines[0, 0, 0] = 0.0
    multiplicity = torch.full_like(last, 2.0)
    multiplicity[[0, -1]] = 1.0
    m1, m2, m3 = (m.to(batch.device) for m in numbers)
    return MeshGroup(
        systems=systems,
        atoms=atoms,
        grid=Grid(len(members), shape, order, local),
        size=torch.tensor(shape, dtype=torch.float64, device=batch.device),
        numbers=(m1, m2, m3),
        damping=(b1.to(batch.device), b2.to(batch.device), b3.to(batch.device)),
        splines=splines.to(batch.device),
        multiplicity=multiplicity.to(batch.device),
        basis=basis if basis is None or systems is None else basis[systems],
    )


def wave_metric(reciprocal: Tensor) -> Tensor:
    """[n, 3, 3] with k^2 = m . metric . m for integer wave numbers m, 1/Angstrom^2."""
    return (2.0 * math.pi) ** 2 * (reciprocal @ reciprocal.mT)


def square_waves(group: MeshGroup, metric: Tensor) -> Tensor:
    """k^2 on the half spectrum [n_group, n1, n2, n3 // 2 + 1], kept above zero."""
    g = metric[:, :, :, None, None, None]
    m1, m2, m3 = group.numbers
    m1, m2 = m1[:, None, None], m2[:, None]
    plane = g[:, 0, 0] * m1**2 + g[:, 1, 1] * m2**2 + 2.0 * g[:, 0, 1] * (m1 * m2)
    slope = 2.0 * (g[:, 0, 2] * m1 + g[:, 1, 2] * m2) + g[:, 2, 2] * m3
    return (plane + slope * m3).clamp(min=1e-12)


def influence_function(
    group: MeshGroup, reciprocal: Tensor, volume: Tensor, alpha: float, power: int = 1
) -> Tensor:
    """4 pi/V exp(-k^2/4 alpha^2)/k^2, or its counterpart for another power of r, times the
    splines' part, on the half spectrum."""
    k2 = square_waves(group, wave_metric(reciprocal))
    if power != 1:
        weight = wave_weight(power, alpha, k2)
        return weight * group.splines * (1.0 / volume)[:, None, None, None]
    gauss = torch.exp(k2 * (-0.25 / alpha**2))
    return gauss / k2 * group.splines * (4.0 * math.pi / volume)[:, None, None, None]


def signed_numbers(size: int) -> Tensor:
    """Integer frequencies of a transform of this length, float64 [size]."""
    return torch.fft.fftfreq(size, 1.0 / size, dtype=torch.float64)


def spline_damping(number: Tensor, size: int, order: int) -> Tensor:
    """U^2(k) / (sum over aliases of U^2)^2 with U(k) = sinc(pi m/size)^order along one axis.

    The Fourier transform of 1/r is Gaussian-damped: only the alias in the first zone matters in
    the numerator of the optimal influence function (Ballenegger et al. 2012), which then
    is a product over the axes and does not depend on the cell.
    """
    aliases = torch.arange(-8, 9, dtype=torch.float64)
    square = torch.sinc((number[:, None] + aliases * size) / size) ** (2 * order)
    return square[:, 8] / square.sum(-1) ** 2


# Relative RMS force error of the mesh = ERROR (alpha / 0.35)^2 (alpha h)^order, the largest found
# on a thermally disordered rock salt, a dense random triclinic ionic box and a box of dipoles and
# ions (alpha of 0.35 and 0.6 per Angstrom, alpha h of 0.17 to 0.5). The energy's error is smaller.
ERROR = {4: 0.140, 5: 0.050, 6: 0.024}


def spline_order(tolerance: float) -> int:
    """The order at which spreading and transforms together cost least in a liquid."""
    if tolerance >= 1e-3:
        return 4
    return 5 if tolerance >= 1e-4 else 6


def mesh_spacing(alpha: float, tolerance: float, order: int) -> float:
    """Mesh spacing in Angstrom at which the mesh alone meets the tolerance."""
    error = ERROR[order] * (alpha / 0.35) ** 2
    return min((tolerance / error) ** (1.0 / order), 0.6) / alpha
