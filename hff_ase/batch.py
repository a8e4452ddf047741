"""AtomsBatch: many systems as flat tensors, the input of every computation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from hff_ase.arrays import ARRAYS, Scope, check_declared, inverse, join, pick
from hff_ase.ase_arrays import arrays_of
from hff_ase.errors import StructureError
from hff_ase.layout import Layout
from hff_ase.reduce import segment_sum

__all__ = ["AtomsBatch"]

FIXED = tuple(ARRAYS)  # those with a field of their own


@dataclass(frozen=True, eq=False)
class AtomsBatch:
    """A batch of ``n_systems`` systems with ``n_atoms`` atoms in all; one system is a batch of one.

    What each array is, and how it is taken along, is declared in `hff_ase.arrays`.

    Attributes:
        positions: float64 [n_atoms, 3], Angstrom.
        numbers: int64 [n_atoms], atomic numbers.
        system: int64 [n_atoms], index of the system each atom belongs to, ascending.
        cell: float64 [n_systems, 3, 3], lattice vectors as rows, Angstrom; the identity where the
            system is not periodic, so that inverses and volumes always exist.
        periodic: bool [n_systems], periodic in all three directions or in none.
        charge: float64 [n_systems], total charge, e.
        molecule: int64 [n_atoms] or None, molecule of each atom, counted through the batch.
        bonds: int64 [n_bonds, 2] or None, the two atoms of each bond.
        types: int64 [n_atoms] or None, atom types.
        masses: float64 [n_atoms] or None, amu, where they are not the standard ones.
        further: other arrays by name, made known with `hff_ase.arrays.declare`.
        order: int64 [n_atoms] or None; where the atoms were rearranged, what each was as given.
        layout: counts and offsets, shared by batches of the same systems.
    """

    positions: Tensor
    numbers: Tensor
    system: Tensor
    cell: Tensor
    periodic: Tensor
    charge: Tensor
    molecule: Tensor | None = None
    bonds: Tensor | None = None
    types: Tensor | None = None
    masses: Tensor | None = None
    further: Mapping[str, Tensor] = field(default_factory=dict)
    order: Tensor | None = None
    layout: Layout = None  # type: ignore[assignment]  # never None after __post_init__

    def __post_init__(self) -> None:
        """Complete the layout and refuse undeclared arrays."""
        for name in self.further:
            check_declared(name)
        if self.layout is None:
            layout = Layout(self.system, self.periodic, self.molecule)
            object.__setattr__(self, "layout", layout)

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the whole batch."""
        return self.positions.shape[0]

    @property
    def n_systems(self) -> int:
        """Number of systems."""
        return self.cell.shape[0]

    @property
    def n_molecules(self) -> int:
        """Number of molecules; 0 where none are given."""
        return self.layout.n_molecules

    @property
    def device(self) -> torch.device:
        """Device of every tensor of the batch."""
        return self.positions.device

    @property
    def counts(self) -> Tensor:
        """Atoms per system, int64 [n_systems]."""
        return self.layout.counts

    @property
    def first_atom(self) -> Tensor:
        """Index of the first atom of each system, int64 [n_systems]."""
        return self.layout.first_atom

    @property
    def index_in_system(self) -> Tensor:
        """Index of each atom within its own system, int64 [n_atoms]."""
        return self.layout.index_in_system

    @property
    def max_count(self) -> int:
        """Atoms in the largest system."""
        return self.layout.max_count

    @property
    def any_periodic(self) -> bool:
        """Whether a system is periodic (known on the host: no device sync in a step)."""
        return self.layout.any_periodic

    @property
    def all_periodic(self) -> bool:
        """Whether every system is periodic."""
        return self.layout.all_periodic

    @property
    def volume(self) -> Tensor:
        """Cell volumes, float64 [n_systems], Angstrom^3 (1 where a system is not periodic)."""
        a, b, c = self.cell.unbind(1)
        return (a * torch.linalg.cross(b, c)).sum(1).abs()

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Every array that the batch has, by name."""
        found = {name: getattr(self, name) for name in FIXED}
        return {name: a for name, a in {**found, **self.further}.items() if a is not None}

    @property
    def sizes(self) -> dict[Scope, int]:
        """Rows per scope."""
        bonds = 0 if self.bonds is None else self.bonds.shape[0]
        return {
            "atom": self.n_atoms,
            "system": self.n_systems,
            "bond": bonds,
            "molecule": self.n_molecules,
        }

    @classmethod
    def of(
        cls, arrays: Mapping[str, Tensor], order: Tensor | None = None, layout: Layout | None = None
    ) -> AtomsBatch:
        """A batch of arrays by name.

        Args:
            arrays: as the attributes, or declared (`hff_ase.arrays`).
            order: int64 [n_atoms], where each atom was when the batch was made; None for as it is.
            layout: what is known of the systems on the host; None to find it.

        Raises:
            ConfigError: an undeclared array.
        """
        fixed: dict[str, Any] = {name: array for name, array in arrays.items() if name in FIXED}
        further = {name: array for name, array in arrays.items() if name not in FIXED}
        parts: dict[str, Any] = {"further": further, "order": order, "layout": layout}
        return cls(**fixed, **parts)

    def system_sum(self, per_atom: Tensor) -> Tensor:
        """Sum a per-atom quantity [n_atoms, ...] over each system, in float64: [n_systems, ...]."""
        return segment_sum(per_atom.double(), self.system, self.n_systems, sorted=True)

    def pad(self, per_atom: Tensor) -> Tensor:
        """Spread a per-atom quantity [n_atoms, ...] to [n_systems, n_max, ...], zero-padded."""
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

    def place(self, atom: int) -> str:
        """How messages name an atom of the batch: "17", or "17 of structure 2" among several."""
        given = atom if self.order is None else int(self.order[atom])
        index = f"{int(self.index_in_system[given])}"
        return index if self.n_systems == 1 else f"{index} of structure {int(self.system[atom])}"

    def replace(self, **arrays: Tensor) -> AtomsBatch:
        """The same systems with some other arrays (not ``system``, ``periodic`` or ``molecule``,
        which make others of them)."""
        further = {name: array for name, array in arrays.items() if name not in FIXED}
        fixed: dict[str, Any] = {name: a for name, a in arrays.items() if name in FIXED}
        if further:
            fixed["further"] = {**self.further, **further}
        if fixed.keys() & {"system", "periodic", "molecule"}:
            fixed["layout"] = None
        return replace(self, **fixed)

    def moved(self, positions: Tensor, cell: Tensor | None = None) -> AtomsBatch:
        """The same systems at other ``positions`` [n_atoms, 3], and in another ``cell``
        [n_systems, 3, 3] where one is given, Angstrom."""
        return replace(self, positions=positions, cell=self.cell if cell is None else cell)

    def detached(self) -> AtomsBatch:
        """The same systems outside any graph."""
        return self.moved(self.positions.detach(), self.cell.detach())

    def to(self, device: str | torch.device) -> AtomsBatch:
        """The same batch on a device."""
        arrays = {name: array.to(device) for name, array in self.arrays.items()}
        layout = self.layout.to(arrays["system"], arrays["periodic"], arrays.get("molecule"))
        order = None if self.order is None else self.order.to(device)
        return AtomsBatch.of(arrays, order, layout)

    def reordered(self, order: Tensor) -> AtomsBatch:
        """The same systems with their atoms (as given) in another order, int64 [n_atoms], which
        keeps every atom in its system."""
        renumbered = {} if self.bonds is None else {"atom": inverse(order, self.n_atoms)}
        moved = pick(self.arrays, {"atom": order}, renumbered)  # type: ignore[arg-type]
        moved["system"] = self.system
        return AtomsBatch.of(moved, order, self.layout)

    def in_given_order(self) -> AtomsBatch:
        """The same systems with their atoms in the order in which they were given."""
        if self.order is None:
            return self
        rows = inverse(self.order, self.n_atoms)
        moved = pick(self.arrays, {"atom": rows}, {"atom": self.order})
        moved["system"] = self.system
        return AtomsBatch.of(moved, layout=self.layout)

    def as_given(self, per_atom: Tensor) -> Tensor:
        """A per-atom quantity [n_atoms, ...] in the order in which the atoms were given."""
        if self.order is None:
            return per_atom
        return per_atom.index_select(0, inverse(self.order, self.n_atoms))

    def atoms_of(self, systems: Tensor) -> Tensor:
        """The atoms of some systems, int64, in the order of the systems."""
        counts = self.counts[systems]
        first = torch.repeat_interleave(self.first_atom[systems], counts)
        start = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
        return first + torch.arange(first.shape[0], device=self.device) - start

    def select(self, systems: Tensor) -> AtomsBatch:
        """Some of the systems, int64 [n], in any order, each at most once; atoms keep the order
        that they have here."""
        atoms = self.atoms_of(systems)
        rows: dict[Scope, Tensor] = {"system": systems, "atom": atoms}
        renumbered = {
            "system": inverse(systems, self.n_systems),
            "atom": inverse(atoms, self.n_atoms),
        }
        if self.bonds is not None:
            rows["bond"] = self._rows_of(self.system[self.bonds[:, 0]], renumbered["system"])
        if self.molecule is not None:
            owner = self.system.new_empty(self.n_molecules)
            owner[self.molecule] = self.system
            rows["molecule"] = self._rows_of(owner, renumbered["system"])
            renumbered["molecule"] = inverse(rows["molecule"], self.n_molecules)
        return AtomsBatch.of(pick(self.arrays, rows, renumbered))  # type: ignore[arg-type]

    @staticmethod
    def _rows_of(owner: Tensor, place: Tensor) -> Tensor:
        """Rows that belong to selected systems, in the order of these, given the system of each row
        and the place of each system (-1: not selected)."""
        kept = torch.nonzero(place[owner] >= 0)[:, 0]
        return kept[torch.argsort(place[owner[kept]], stable=True)]

    @classmethod
    def join(cls, batches: Sequence[AtomsBatch]) -> AtomsBatch:
        """All systems of several batches, in order; optional arrays where every batch has them."""
        arrays = join([batch.arrays for batch in batches], [batch.sizes for batch in batches])
        system, periodic = arrays["system"], arrays["periodic"]
        layouts = [batch.layout for batch in batches]
        return cls.of(arrays, layout=Layout.join(layouts, system, periodic, arrays.get("molecule")))

    @classmethod
    def from_atoms(
        cls, atoms: Atoms | Sequence[Atoms], device: str | torch.device = "cpu"
    ) -> AtomsBatch:
        """Make a batch from one or more ase.Atoms, on a ``device``.

        The total charge is ``atoms.info["charge"]`` (0 where absent); ``atoms.arrays["molecule"]``
        (any integers, one value per molecule) and masses that differ from the standard ones are
        taken along where every structure has them.

        Raises:
            StructureError: a structure is empty or not finite, its pbc is neither all true nor
                all false, or its cell is flat or left-handed.
        """
        if not isinstance(atoms, (Atoms, Iterable)):
            raise StructureError(f"expected ase.Atoms or several, got {type(atoms).__name__}")
        structures = [atoms] if isinstance(atoms, Atoms) else list(atoms)
        if not structures:
            raise StructureError("expected at least one structure, got an empty list")
        arrays, layout = arrays_of(structures, device)
        return cls.of(arrays, layout=layout)
