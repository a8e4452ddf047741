"""Which site each atom of a batch is: molecules found by their bonds and matched by graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii
from torch import Tensor

from hff_ase.arrays import inverse
from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError
from hff_ase.molecular.octahedra import in_opposite_pairs
from hff_ase.molecular.templates import Templates
from hff_ase.molecule_graph import MoleculeGraph
from hff_ase.neighborhood import Neighborhood
from hff_ase.topology import Connectivity, from_bonds, perceive

JUMP = 1.0  # Angstrom between two searches for neighbours: an atom that went farther was put there
DECIDING = ("numbers", "system", "periodic", "molecule", "bonds")  # on what molecules there are
STRETCHED = 1.8  # times the sum of covalent radii: a known bond this long is broken


@dataclass(frozen=True, eq=False)
class Assignment:
    """Atoms of a batch as sites of templates.

    Attributes:
        site: int64 [n_atoms].
        instances: per template, int64 [n_instances, n_template_atoms], its atoms in the batch in
            the order of the template.
    """

    site: Tensor
    instances: tuple[Tensor, ...]

    def reordered(self, order: Tensor) -> Assignment:
        """For a batch whose atoms were rearranged (`AtomsBatch.order`)."""
        place = inverse(order, len(order))
        return Assignment(self.site[order], tuple(place[atoms] for atoms in self.instances))

    def listed(self, rows: list[np.ndarray]) -> Tensor:
        """Batch atoms of lists over templates' atoms: [n, width] from one [n_t, width] each."""
        parts = [
            atoms[:, torch.as_tensor(of_template, device=atoms.device)].flatten(0, 1)
            for atoms, of_template in zip(self.instances, rows, strict=True)
        ]
        return torch.cat(parts)

    def tiled(self, rows: list[np.ndarray]) -> Tensor:
        """Values that go with `listed`: [n] from one [n_t] each."""
        parts = [
            torch.as_tensor(of_template, device=atoms.device).repeat(len(atoms))
            for atoms, of_template in zip(self.instances, rows, strict=True)
        ]
        return torch.cat(parts)


class Assigner:
    """Assigns batches; along a trajectory molecules are kept, as their bonds cannot change.

    Molecules are looked for where systems are met first, and anew where atoms have jumped since the
    last call: then it is another structure.
    """

    def __init__(self, templates: Templates) -> None:
        self.templates = templates
        self._known: tuple[AtomsBatch, Assignment] | None = None
        self._places: dict[tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]], list[int]] = {}

    def __call__(self, batch: AtomsBatch) -> Assignment:
        """The assignment of a batch, in its order.

        Raises:
            StructureError: a molecule without parameters, or one whose bonds are broken; names it.
        """
        known = self._known
        given = _as_given(batch)
        found = known[1] if known is not None and _follows(known[0], given) else None
        if found is None:
            found = self._assign(batch)
        self._known = given, found
        if batch.order is not None:
            found = found.reordered(batch.order)
        self._check_bonds(batch, found)
        return found

    def _assign(self, batch: AtomsBatch) -> Assignment:
        """Every molecule of every system, one by one: on the host, when systems are met."""
        given = batch.in_given_order()
        numbers = given.numbers.cpu().numpy()
        ids = None if given.molecule is None else given.molecule.cpu().numpy()
        positions = given.positions.detach().cpu().numpy()
        site = np.empty(batch.n_atoms, dtype=np.int64)
        instances: list[list[np.ndarray]] = [[] for _ in self.templates.molecules]
        first = 0
        for system, count in enumerate(batch.counts.tolist()):
            mine = slice(first, first + count)
            cell, periodic = batch.cell[system].cpu().numpy(), bool(batch.periodic[system])
            atoms = Atoms(numbers[mine], positions[mine], cell=cell, pbc=periodic)
            if ids is not None:
                atoms.set_array("molecule", ids[mine])
            topology = self._topology(given, atoms, first)
            for molecule, members in enumerate(topology.members):
                graph = topology.graph(molecule)
                index = self.templates.find(graph)
                if index is None:
                    raise StructureError(
                        f"expected molecules with parameters ({', '.join(self.templates.names)}), "
                        f"got {graph.formula} (atom {given.place(first + int(members[0]))})"
                    )
                places = self._match(index, graph, atoms, members)
                ordered = np.empty(len(members), dtype=np.int64)
                ordered[places] = first + members
                instances[index].append(ordered)
                site[first + members] = self.templates.first[index] + np.array(places)
            first += count
        device = batch.device
        rows = [
            np.array(found, dtype=np.int64).reshape(-1, len(template.numbers))
            for found, template in zip(instances, self.templates.molecules, strict=True)
        ]
        return Assignment(
            torch.as_tensor(site, device=device),
            tuple(torch.as_tensor(row, device=device) for row in rows),
        )

    def _topology(self, batch: AtomsBatch, atoms: Atoms, first: int) -> Connectivity:
        if batch.bonds is None:
            return perceive(atoms)
        own = batch.bonds.cpu().numpy() - first
        inside = ((own >= 0) & (own < len(atoms))).all(axis=1)
        return from_bonds(atoms.numbers.tolist(), own[inside].tolist())

    def _match(
        self, index: int, graph: MoleculeGraph, atoms: Atoms, members: np.ndarray
    ) -> list[int]:
        """The place in its template of each atom of a molecule."""
        template = self.templates.molecules[index]
        key = (index, graph.numbers, graph.bonds)
        if key not in self._places:
            same = graph == template.graph  # as it is listed: no other order than its own
            own = list(range(len(members)))
            self._places[key] = own if same else graph.mapping_to(template.graph) or own
        return in_opposite_pairs(template, atoms, members, self._places[key])

    def _check_bonds(self, batch: AtomsBatch, found: Assignment) -> None:
        """Refuse molecules that have come apart, on the host (at a search for neighbours)."""
        bonds = found.listed([t.bond_pairs for t in self.templates.molecules])
        if not len(bonds):
            return
        vectors = nearest_vectors(batch, bonds[:, 0], bonds[:, 1])
        radii = torch.as_tensor(covalent_radii, device=batch.device)[batch.numbers]
        limit = STRETCHED * (radii[bonds[:, 0]] + radii[bonds[:, 1]])
        broken = torch.linalg.vector_norm(vectors, dim=1) > limit
        if bool(broken.any()):
            i, j = bonds[int(torch.nonzero(broken)[0, 0])].tolist()
            raise StructureError(
                "expected molecules whose bonds hold, as they must in a molecular force field, got "
                f"a broken one between atoms {batch.place(i)} and {batch.place(j)}"
            )


def _as_given(batch: AtomsBatch) -> AtomsBatch:
    """The batch in the order in which atoms were given, with copies of positions and cell: a host
    may go on and write there."""
    given = batch.in_given_order().detached()
    return given.moved(given.positions.clone(), given.cell.clone())


def _follows(last: AtomsBatch, now: AtomsBatch) -> bool:
    """Whether these are the systems of the last call, their atoms nearby (or by whole cells)."""
    if last.device != now.device or last.positions.shape != now.positions.shape:
        return False
    before, after = last.arrays, now.arrays
    for name in DECIDING:
        if (name in before) != (name in after):
            return False
        if name in after and not torch.equal(before[name], after[name]):
            return False
    moved = now.positions - last.positions
    if now.any_periodic:
        inverses, _ = torch.linalg.inv_ex(now.cell)
        fraction = (moved[:, None] @ inverses[now.system])[:, 0]
        whole = fraction.round() * now.periodic[now.system, None]
        moved = moved - (whole[:, None] @ now.cell[now.system])[:, 0]
    return bool(moved.square().sum(1).max() < JUMP**2)


def refuses_cut_molecules(neighbors: Neighborhood) -> str | None:
    """Why a term of whole molecules cannot give the energies of some atoms only; None where the
    host says which bonds there are: a molecule that is not whole is then none with parameters."""
    if neighbors.halo is None and neighbors.batch.bonds is not None:
        return None
    return "its molecules must be whole, with their bonds given (AtomsBatch.bonds), and no halo"


def nearest_vectors(batch: AtomsBatch, i: Tensor, j: Tensor) -> Tensor:
    """x_j - x_i to the nearest image of j, float64 [n, 3], differentiable in positions and cell.

    By rounding fractions: right for vectors shorter than half of the cell's shortest height, as
    those within a molecule are.
    """
    vectors = batch.positions.index_select(0, j) - batch.positions.index_select(0, i)
    if not batch.any_periodic or not len(i):
        return vectors
    system = batch.system[i]
    with torch.no_grad():
        inverses, _ = torch.linalg.inv_ex(batch.cell)
        fraction = (vectors[:, None] @ inverses[system])[:, 0]
        whole = fraction.round() * batch.periodic[system, None]
    return vectors - (whole[:, None] @ batch.cell[system])[:, 0]
