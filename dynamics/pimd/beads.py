"""All beads of a ring polymer in one pass, with neighbour lists that are reused from step to step.

Nothing here knows i-PI: lengths in Angstrom, energies in eV, cells as rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.calculators.committee import can_share
from hff_ase.errors import ConfigError, StructureError
from hff_ase.passes import Evaluation
from hff_ase.shared_evaluators import SharedEvaluators
from hff_ase.structures import check_cell

Array = NDArray[np.float64]
MOST_LISTS = 3  # of different numbers of beads (an incomplete last batch) that are kept
MOST_COMPARED = 64  # atoms that tell one bead from another


@dataclass(frozen=True)
class BeadResults:
    """What one model gives for every bead.

    Attributes:
        energy: [n_beads], eV.
        forces: [n_beads, n_atoms, 3], eV/Angstrom.
        virial: [n_beads, 3, 3], -dE/dstrain in eV; zero without a cell.
        charges: [n_beads, n_atoms], e; None where the model has none.
    """

    energy: Array
    forces: Array
    virial: Array
    charges: Array | None


class BeadForces:
    """Several replicas of one system, evaluated by one or more models in one pass each.

    Beads may come in another order, or wrapped into the cell, from call to call: they are put back
    where they were in the neighbour list wherever that saves a search.

    Args:
        members: models on one device; they share the search for neighbours.
        template: elements, charge and periodicity of a replica.
        skin: how far atoms may move, together, before neighbours are searched again, Angstrom.

    Attributes:
        n_beads: how many beads have been evaluated.
        n_searches: how often neighbours have been searched.

    Raises:
        ConfigError: no models, or models on different devices.
        StructureError: the template holds an element that a model does not know.
    """

    def __init__(
        self, members: Sequence[HybridFF], template: Atoms, skin: float | None = None
    ) -> None:
        if not members:
            raise ConfigError("expected at least one model, got none")
        if not can_share(members):
            raise ConfigError("expected models on one device, got several devices")
        self._potentials = [member.potential for member in members]
        self._device = members[0].device
        self._template = template
        self.skin = members[0].skin if skin is None else skin
        alone = AtomsBatch.from_atoms(template, self._device)
        for potential in self._potentials:
            potential.check_elements(alone)
        self._lists: dict[int, tuple[SharedEvaluators, AtomsBatch]] = {}
        self.n_searches = self.n_beads = 0

    def evaluate(self, cells: Array, positions: Array) -> list[BeadResults]:
        """Results of every model, in the order of the models and of the beads as given.

        Args:
            cells: [n_beads, 3, 3], rows, Angstrom; ignored for systems without a cell.
            positions: [n_beads, n_atoms, 3], Angstrom.

        Raises:
            StructureError: another number of atoms than the template's, a cell without a volume,
                or beads that cannot be evaluated.
        """
        n_atoms = len(self._template)
        if positions.ndim != 3 or positions.shape[1:] != (n_atoms, 3):
            raise StructureError(
                f"expected {n_atoms} atoms as in the template, got positions "
                f"{list(positions.shape)} [beads, atoms, 3]"
            )
        if cells.shape != (len(positions), 3, 3):
            raise StructureError(
                f"expected a cell for each of {len(positions)} beads, got {list(cells.shape)}"
            )
        try:
            return self._evaluate(cells, positions)
        except BaseException:
            # a list that was left half built must not serve the next call
            self._lists.clear()
            raise

    def _evaluate(self, cells: Array, positions: Array) -> list[BeadResults]:
        shared, like = self._list_for(len(positions))
        if like.any_periodic:
            for cell in np.unique(cells, axis=0):
                check_cell(cell)
        else:
            cells = np.broadcast_to(np.eye(3), cells.shape)
        batch, order = self._placed(like, cells, positions), None
        reference = shared.neighbors.reference
        if reference is not None and self.skin > 0 and shared.outdated(batch):
            known = reference.as_given(reference.positions).cpu().numpy()
            order, nearest = put_back(known.reshape(positions.shape), cells, positions, like)
            again = self._placed(like, cells[order], nearest)
            if shared.outdated(again):
                order = None
            else:
                batch = again
        before = shared.neighbors.n_builds
        results = [self._results(found, batch, order) for found in shared.evaluate(batch)]
        self.n_searches += shared.neighbors.n_builds - before
        self.n_beads += len(positions)
        return results

    def _list_for(self, n_beads: int) -> tuple[SharedEvaluators, AtomsBatch]:
        if n_beads not in self._lists:
            if len(self._lists) >= MOST_LISTS:
                self._lists.pop(next(iter(self._lists)))
            like = AtomsBatch.from_atoms([self._template] * n_beads, self._device)
            self._lists[n_beads] = SharedEvaluators(self._potentials, self.skin), like
        return self._lists[n_beads]

    def _placed(self, like: AtomsBatch, cells: Array, positions: Array) -> AtomsBatch:
        """A batch at these places; copies, since a driver's arrays may be another's memory."""

        def tensor(values: Array, *shape: int) -> torch.Tensor:
            copy = np.array(values, dtype=np.float64).reshape(shape)
            return torch.from_numpy(copy).to(self._device)

        return like.moved(tensor(positions, -1, 3), tensor(cells, -1, 3, 3))

    def _results(
        self, found: Evaluation, batch: AtomsBatch, order: NDArray[np.intp] | None
    ) -> BeadResults:
        n_beads = batch.n_systems

        def array(values: torch.Tensor, *shape: int) -> Array:
            out: Array = values.double().cpu().numpy().reshape(n_beads, *shape)
            if order is not None:
                given = np.empty_like(out)
                given[order] = out
                return given
            return out

        assert found.forces is not None  # for the type checker: both are always asked for
        assert found.stress is not None
        virial = -found.stress * batch.volume[:, None, None]
        charges = found.fields.get("charges")
        return BeadResults(
            energy=array(found.energy),
            forces=array(found.forces, -1, 3),
            virial=array(virial, 3, 3),
            charges=None if charges is None else array(charges, -1),
        )


def put_back(
    known: Array, cells: Array, positions: Array, like: AtomsBatch
) -> tuple[NDArray[np.intp], Array]:
    """Which bead belongs where, and its atoms moved by lattice vectors to be near.

    Args:
        known: [n_beads, n_atoms, 3], where the neighbours of each place were searched.
        cells, positions: as given, [n_beads, 3, 3] and [n_beads, n_atoms, 3].
        like: whether there are periods.

    Returns:
        The bead of every place [n_beads], and positions [n_beads, n_atoms, 3] by place.
    """
    n_beads, n_atoms = positions.shape[:2]
    periodic = like.any_periodic
    some = np.linspace(0, n_atoms - 1, min(n_atoms, MOST_COMPARED)).astype(np.intp)
    apart = positions[:, None, some] - known[None, :, some]  # [bead, place, atom, 3]
    if periodic:
        apart = apart - lattice_part(apart.reshape(n_beads, -1, 3), cells).reshape(apart.shape)
    distance = np.square(apart).sum(axis=(2, 3))
    places, order = linear_sum_assignment(distance.T)
    assert np.array_equal(places, np.arange(n_beads))
    nearest = positions[order]
    if periodic:
        nearest = nearest - lattice_part(nearest - known, cells[order])
    return order, nearest


def lattice_part(vectors: Array, cells: Array) -> Array:
    """The lattice vectors nearest to vectors [n, m, 3] in cells [n, 3, 3] (rows)."""
    whole: Array = np.round(vectors @ np.linalg.inv(cells)) @ cells
    return whole
