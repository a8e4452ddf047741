"""AtomsBatch: many systems as flat tensors, the one input of everything that computes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import Tensor

from hff_ase.errors import StructureError
from hff_ase.kernels.reduce import segment_sum

FARTHEST = 1e7  # Angstrom from the origin; beyond it float64 keeps less than 1e-9 Angstrom
DENSEST = 0.1  # Angstrom^3 per atom; diamond has 5.7


@dataclass(frozen=True)
class AtomsBatch:
    """A batch of ``n_systems`` systems with ``n_atoms`` atoms in all; one system is a batch of one.

    Attributes:
        positions: float64 [n_atoms, 3], Angstrom.
        numbers: int64 [n_atoms], atomic numbers.
        system: int64 [n_atoms], index of the system each atom belongs to, ascending.
        cell: float64 [n_systems, 3, 3], lattice vectors as rows, Angstrom; the identity where the
            system is not periodic, so that inverses and volumes always exist.
        periodic: bool [n_systems], periodic in all three directions or in none.
        charge: float64 [n_systems], total charge, e.
        molecule: int64 [n_atoms] or None, molecule index within the system (input only).
        order: int64 [n_atoms] or None; where the atoms were rearranged, what each was as given.
    """

    positions: Tensor
    numbers: Tensor
    system: Tensor
    cell: Tensor
    periodic: Tensor
    charge: Tensor
    molecule: Tensor | None = None
    order: Tensor | None = None

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the whole batch."""
        return self.positions.shape[0]

    @property
    def n_systems(self) -> int:
        """Number of systems."""
        return self.cell.shape[0]

    @property
    def device(self) -> torch.device:
        """Device of every tensor of the batch."""
        return self.positions.device

    @cached_property
    def counts(self) -> Tensor:
        """Atoms per system, int64 [n_systems]."""
        return torch.bincount(self.system, minlength=self.n_systems)

    @cached_property
    def first_atom(self) -> Tensor:
        """Index of the first atom of each system, int64 [n_systems]."""
        return torch.cumsum(self.counts, 0) - self.counts

    @cached_property
    def index_in_system(self) -> Tensor:
        """Index of each atom within its own system, int64 [n_atoms]."""
        return torch.arange(self.n_atoms, device=self.device) - self.first_atom[self.system]

    @cached_property
    def any_periodic(self) -> bool:
        """Whether a system is periodic (known on the host: no device sync in a step)."""
        return bool(self.periodic.any())

    @cached_property
    def all_periodic(self) -> bool:
        """Whether every system is periodic."""
        return bool(self.periodic.all())

    @property
    def volume(self) -> Tensor:
        """Cell volumes, float64 [n_systems], Angstrom^3 (1 where a system is not periodic)."""
        a, b, c = self.cell.unbind(1)
        return (a * torch.linalg.cross(b, c)).sum(1).abs()

    def system_sum(self, per_atom: Tensor) -> Tensor:
        """Sum a per-atom quantity [n_atoms, ...] over each system, in float64: [n_systems, ...]."""
        return segment_sum(per_atom.double(), self.system, self.n_systems, sorted=True)

    def pad(self, per_atom: Tensor) -> Tensor:
        """Spread a per-atom quantity [n_atoms, ...] to [n_systems, n_max, ...], zeros behind."""
        if self.n_systems == 1:
            return per_atom[None]
        n_max = self.max_count
        out = per_atom.new_zeros((self.n_systems * n_max, *per_atom.shape[1:]))
        out = out.index_copy(0, self.system * n_max + self.index_in_system, per_atom)
        return out.reshape(self.n_systems, n_max, *per_atom.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """The inverse of `pad`: [n_systems, n_max, ...] to [n_atoms, ...]."""
        if self.n_systems == 1:
            return padded[0]
        return padded[self.system, self.index_in_system]

    @cached_property
    def max_count(self) -> int:
        """Atoms in the largest system."""
        return int(self.counts.max())

    def place(self, atom: int) -> str:
        """How messages name an atom of the batch: "17", or "17 of structure 2" among several."""
        given = atom if self.order is None else int(self.order[atom])
        index = f"{int(self.index_in_system[given])}"
        return index if self.n_systems == 1 else f"{index} of structure {int(self.system[atom])}"

    def moved(self, positions: Tensor, cell: Tensor | None = None) -> AtomsBatch:
        """The same systems at other positions (and cells); derived index arrays are kept."""
        cell = self.cell if cell is None else cell
        return self._keeping_counts(replace(self, positions=positions, cell=cell))

    def _keeping_counts(self, other: AtomsBatch) -> AtomsBatch:
        names = ("counts", "first_atom", "index_in_system", "any_periodic", "all_periodic")
        for name in (*names, "max_count"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def reordered(self, order: Tensor) -> AtomsBatch:
        """The same systems with their atoms (as given) in another order, int64 [n_atoms], which
        keeps every atom in its system."""
        parts = {"positions": self.positions, "numbers": self.numbers, "molecule": self.molecule}
        moved = {k: v.index_select(0, order) for k, v in parts.items() if v is not None}
        return self._keeping_counts(replace(self, **moved, order=order))

    def as_given(self, per_atom: Tensor) -> Tensor:
        """A per-atom quantity [n_atoms, ...] in the order in which the atoms were given."""
        if self.order is None:
            return per_atom
        place = torch.empty_like(self.order)
        place[self.order] = torch.arange(self.n_atoms, device=self.device)
        return per_atom.index_select(0, place)

    @classmethod
    def from_atoms(
        cls, atoms: Atoms | Sequence[Atoms], device: str | torch.device = "cpu"
    ) -> AtomsBatch:
        """Make a batch from one or more ase.Atoms.

        The total charge is ``atoms.info["charge"]`` (0 where absent); ``atoms.arrays["molecule"]``
        is taken along where every structure has it.

        Raises:
            StructureError: a structure is empty or not finite, its pbc is neither all true nor
                all false, or its cell is flat or left-handed.
        """
        if not isinstance(atoms, (Atoms, Iterable)):
            raise StructureError(f"expected ase.Atoms or several, got {type(atoms).__name__}")
        structures = [atoms] if isinstance(atoms, Atoms) else list(atoms)
        if not structures:
            raise StructureError("expected at least one structure, got an empty list")
        for index, structure in enumerate(structures):
            place = f" (structure {index})" if len(structures) > 1 else ""
            check_structure(structure, place)
        counts = [len(structure) for structure in structures]
        cells = [np.asarray(s.cell) if s.pbc.all() else np.eye(3) for s in structures]
        molecule = None
        if all("molecule" in s.arrays for s in structures):
            molecule = np.concatenate([s.arrays["molecule"] for s in structures]).astype(np.int64)

        def tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(array, dtype=dtype, device=device)

        periodic = [bool(s.pbc.all()) for s in structures]
        batch = cls(
            positions=tensor(np.concatenate([s.positions for s in structures]), torch.float64),
            numbers=tensor(np.concatenate([s.numbers for s in structures]), torch.int64),
            system=tensor(np.repeat(np.arange(len(counts)), counts), torch.int64),
            cell=tensor(np.stack(cells), torch.float64),
            periodic=tensor(np.array(periodic), torch.bool),
            charge=tensor(np.array([total_charge(s) for s in structures]), torch.float64),
            molecule=None if molecule is None else tensor(molecule, torch.int64),
        )
        # known here; asked of a device they would make the host wait
        batch.__dict__.update(
            counts=tensor(np.array(counts), torch.int64),
            max_count=max(counts),
            any_periodic=any(periodic),
            all_periodic=all(periodic),
        )
        return batch


def total_charge(atoms: Atoms) -> float:
    """Total charge of a structure in e: ``atoms.info["charge"]``, 0 where absent.

    Raises:
        StructureError: the entry is not a finite number.
    """
    value = atoms.info.get("charge", 0.0)
    try:
        charge = float(value)
    except (TypeError, ValueError):
        charge = np.nan
    if not np.isfinite(charge):
        got = " ".join(repr(value).split())
        raise StructureError(f"expected atoms.info['charge'] to be a finite number, got {got:.60}")
    if abs(charge) > max(len(atoms), 1) * 8:
        raise StructureError(
            f"expected a total charge of at most 8 e per atom, got {charge:g} e on {len(atoms)} "
            "atoms (atoms.info['charge'])"
        )
    return charge


def check_structure(atoms: Atoms, place: str = "") -> None:
    """Refuse a structure that no energy can be computed for, naming what is wrong with it."""
    if not isinstance(atoms, Atoms):
        raise StructureError(f"expected ase.Atoms, got {type(atoms).__name__}{place}")
    if len(atoms) == 0:
        raise StructureError(f"expected at least one atom, got an empty structure{place}")
    known = (atoms.numbers >= 0) & (atoms.numbers < len(chemical_symbols))
    if not known.all():
        bad = int(np.argmin(known))
        raise StructureError(
            f"expected atomic numbers of elements, got {atoms.numbers[bad]} for atom {bad}{place}"
        )
    near = (np.abs(atoms.positions) < FARTHEST).all(axis=1)  # False for nan and inf
    if not near.all():
        bad = int(np.argmin(near))
        raise StructureError(
            f"expected finite positions within {FARTHEST:g} A of the origin, got "
            f"{atoms.positions[bad].tolist()} for atom {bad} "
            f"({chemical_symbols[atoms.numbers[bad]]}){place}"
        )
    if atoms.pbc.any() and not atoms.pbc.all():
        raise StructureError(
            "expected periodic boundaries in all three directions or in none, got "
            f"pbc={atoms.pbc.tolist()}{place}"
        )
    if atoms.pbc.all():
        check_cell(np.asarray(atoms.cell), place)
        if atoms.get_volume() < DENSEST * len(atoms):
            raise StructureError(
                f"expected at least {DENSEST:g} A^3 per atom, got {len(atoms)} atoms in "
                f"{atoms.get_volume():.3g} A^3{place}"
            )


def check_cell(cell: np.ndarray, place: str = "") -> None:
    """Refuse a cell that is not finite, flat or left-handed."""
    if not np.isfinite(cell).all():
        raise StructureError(f"expected a finite cell, got {cell.tolist()}{place}")
    lengths = np.linalg.norm(cell, axis=1)
    volume = float(np.linalg.det(cell))
    if abs(volume) <= 1e-6 * max(float(np.prod(lengths)), 1.0):
        raise StructureError(
            f"expected a cell with a volume, got {volume:g} A^3 from rows {cell.tolist()}{place}"
        )
    if volume < 0:
        raise StructureError(
            f"expected a right-handed cell, got one with volume {volume:g} A^3; swap two lattice "
            f"vectors{place}"
        )
