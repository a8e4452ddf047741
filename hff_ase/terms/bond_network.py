"""Bonded energies of molecules by a network over their bonds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.molecular.assignment import Assigner, Assignment, nearest_vectors
from hff_ase.molecular.bond_features import geometry, n_elements, n_geometric, reference
from hff_ase.molecular.bond_trees import NOBODY, Centre, surroundings
from hff_ase.molecular.templates import Template, Templates
from hff_ase.neighborhood import Neighborhood
from hff_ase.terms.term import Fields, Term

HIDDEN, TOP = (40, 20, 20), (20, 10)


class BondNet(nn.Module):
    """Energies of bonds from their descriptors and those of the bonds around them.

    Every bond's descriptor goes through layers of tanh; the bond itself is then mixed with the mean
    of those at either end, weight w each, and goes through two more and a linear one.

    Args:
        reach: 0 for the descriptor of the bond alone, 1 for bonds around it too.
        valence: most bonds of an atom.
    """

    def __init__(self, reach: int, valence: int) -> None:
        super().__init__()
        if reach not in (0, 1) or not 2 <= valence <= 8:
            raise ConfigError(
                f"expected a reach of 0 or 1 and a valence of 2 to 8, got {reach} and {valence}"
            )
        self.reach, self.valence = reach, valence
        sizes = [n_elements(valence) + n_geometric(valence), *HIDDEN]
        self.bonds = nn.ModuleList(
            nn.Linear(a, b, dtype=torch.float64) for a, b in itertools.pairwise(sizes)
        )
        sizes = [HIDDEN[-1], *TOP]
        self.mixed = nn.ModuleList(
            nn.Linear(a, b, dtype=torch.float64) for a, b in itertools.pairwise(sizes)
        )
        self.energy = nn.Linear(TOP[-1], 1, dtype=torch.float64)
        self.mixing = nn.Parameter(torch.tensor(0.25, dtype=torch.float64))

    def forward(self, elements: Tensor, of_row: Tensor, changes: Tensor, present: Tensor) -> Tensor:
        """Energies [n].

        Args:
            elements: [n_rows, n_bonds, n_elements], of the rows of templates.
            of_row: int64 [n], which of these each order is.
            changes: [n, n_bonds, n_geometric].
            present: [n, n_bonds], 1 where there is a bond, the central one first.
        """
        lowest = cast(nn.Linear, self.bonds[0])
        split = elements.shape[-1]
        of_elements = elements @ lowest.weight[:, :split].mT + lowest.bias
        x = of_elements[of_row] + changes @ lowest.weight[:, split:].mT
        x = torch.tanh(x)
        for layer in list(self.bonds)[1:]:
            x = torch.tanh(layer(x))
        if self.reach:
            own = x[:, 0]
            for side in range(2):
                chosen = slice(1 + side * (self.valence - 1), 1 + (side + 1) * (self.valence - 1))
                count = present[:, chosen].sum(1, keepdim=True)
                mean = (x[:, chosen] * present[:, chosen, None]).sum(1) / count.clamp(min=1.0)
                own = own + self.mixing * (mean - x[:, 0] * (count > 0))
            x = own
        else:
            x = x[:, 0]
        for layer in self.mixed:
            x = torch.tanh(layer(x))
        energies: Tensor = self.energy(x)
        return energies[:, 0]


class _Orders(NamedTuple):
    """Of one bond of a template: its centres, and by their handedness the rows of all templates'
    tables, atoms of the template [n_orders, n_bonds, 2 valence], and each order's weight."""

    centres: tuple[Centre, ...]
    rows: dict[tuple[bool, ...], tuple[np.ndarray, np.ndarray, float]]


class _Rows(NamedTuple):
    """Orders of all bonds of a batch for one network: atoms [n, n_bonds, 2 valence], the row of the
    tables [n] and the weight [n]."""

    atoms: Tensor
    row: Tensor
    weight: Tensor


class BondNetwork(Term):
    r"""E = scale sum over bonds of <NN> + offset of each molecule, <> a mean over a bond's orders.

    A bond is described by elements, lengths, angles and torsions around it
    (`hff_ase.molecular.bond_features`); what is read of the neighbours does not depend on how atoms
    are numbered, since all orders of like neighbours count (`hff_ase.molecular.bond_trees`). That
    is sGNN (J. Phys. Chem. Lett. 12, 7982 (2021)), with which PhyNEO describes molecules. Two
    like neighbours of an atom between unlike ones (the hydrogens of a CH2) are told apart by where
    they are: the mirror image of such a molecule has another energy. Bonds of this form cannot
    break.

    Args:
        molecules: each with ``name``, ``numbers``, ``bonds`` and ``network``, which of the networks
            is its (None for an atom alone).
        networks: each with ``reach`` and ``valence`` (`BondNet`).
        scale: eV.
        offset: eV, of each molecule with a network.

    Raises:
        ConfigError: a molecule whose network does not exist, or which it cannot describe.
    """

    kind = "bond_network"

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        networks: Sequence[Mapping[str, int]],
        scale: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        self.templates = Templates.of(molecules)
        self.networks = nn.ModuleList(BondNet(**network) for network in networks)
        self.scale, self.offset = float(scale), float(offset)
        self._assign = Assigner(self.templates)
        self._network_of: list[int | None] = [entry.get("network") for entry in molecules]
        self._bonds: list[list[_Orders]] = []
        tables: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in self.networks]
        for template, index in zip(self.templates.molecules, self._network_of, strict=True):
            if index is not None and not 0 <= index < len(self.networks):
                raise ConfigError(
                    f"expected a network below {len(self.networks)} for {template.name!r}, got "
                    f"{index}"
                )
            own = [] if index is None else self._list(template, index, tables[index])
            self._bonds.append(own)
        for index, table in enumerate(tables):
            elements, values = (
                np.concatenate(part) if table else np.zeros((0, 1, 1))
                for part in (zip(*table, strict=True) if table else ((), ()))
            )
            self.register_buffer(f"elements_{index}", torch.tensor(elements), persistent=False)
            self.register_buffer(f"reference_{index}", torch.tensor(values), persistent=False)

    def _list(
        self, template: Template, index: int, table: list[tuple[np.ndarray, np.ndarray]]
    ) -> list[_Orders]:
        """The bonds of a molecule, whose rows are added to the tables of its network."""
        net, found = self.nets[index], []
        for bond in surroundings(template, net.reach, net.valence):
            rows = {}
            for hands, orders in bond.orders.items():
                known = reference(template, orders.atoms)
                first = sum(len(elements) for elements, _ in table)
                table.append((known.elements, known.values))
                place = np.arange(first, first + len(orders.atoms))
                rows[hands] = (place, orders.atoms, orders.weight)
            found.append(_Orders(bond.centres, rows))
        return found

    @property
    def nets(self) -> list[BondNet]:
        """The networks."""
        return [cast(BondNet, net) for net in self.networks]

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        entries = self.templates.config()
        for entry, index in zip(entries, self._network_of, strict=True):
            entry["network"] = index
        networks = [{"reach": net.reach, "valence": net.valence} for net in self.nets]
        return {
            "molecules": entries,
            "networks": networks,
            "scale": self.scale,
            "offset": self.offset,
        }

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """Molecules are found as a whole."""
        return "its molecules must be whole"

    def prepare(self, batch: AtomsBatch) -> tuple[Assignment, list[_Rows]]:
        """Sites, and the orders of all bonds.

        Raises:
            StructureError: a molecule that is not among those of the term, or has come apart.
        """
        found = self._assign(batch)
        parts: list[list[_Rows]] = [[] for _ in self.networks]
        for atoms, bonds, index in zip(found.instances, self._bonds, self._network_of, strict=True):
            if index is None or not len(atoms):
                continue
            for bond in bonds:
                parts[index] += _rows_of(batch, atoms, bond)
        return found, [_joined(own, batch) for own in parts]

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV: of each bond half to either end."""
        found, parts = neighbors.plan(self)
        energies = torch.zeros_like(batch.positions[:, 0])
        for index, (net, rows) in enumerate(zip(self.nets, parts, strict=True)):
            if not len(rows.row):
                continue
            n, n_bonds, width = rows.atoms.shape
            less = getattr(self, f"reference_{index}")[rows.row].flatten(0, 1)
            changes = geometry(batch, rows.atoms.view(n * n_bonds, width), less)
            changes = changes.view(n, n_bonds, -1)
            present = (rows.atoms[:, :, 0] != NOBODY).double()
            value = net(getattr(self, f"elements_{index}"), rows.row, changes, present)
            half = 0.5 * self.scale * rows.weight * value
            for column in range(2):
                energies = energies.index_add(0, rows.atoms[:, 0, column], half)
        for atoms, network in zip(found.instances, self._network_of, strict=True):
            if network is not None and len(atoms):
                share = energies.new_full((atoms.numel(),), self.offset / atoms.shape[1])
                energies = energies.index_add(0, atoms.flatten(), share)
        return energies


def _rows_of(batch: AtomsBatch, atoms: Tensor, bond: _Orders) -> list[_Rows]:
    """The rows of one bond in all molecules of a kind, ``atoms`` [n_instances, n_template_atoms],
    grouped by the handedness of the atoms around it."""
    hands = torch.stack(
        [_left_handed(batch, atoms, centre) for centre in bond.centres]
        or [torch.zeros(len(atoms), dtype=torch.bool, device=batch.device)],
        1,
    )
    found = []
    for chosen, (place, listed, weight) in bond.rows.items():
        wanted = torch.tensor(chosen or (False,), device=batch.device)
        mine = atoms[(hands == wanted).all(1)]
        if not len(mine):
            continue
        padded = torch.cat([mine, mine.new_full((len(mine), 1), NOBODY)], 1)
        of_batch = padded[:, torch.as_tensor(listed, device=batch.device)].flatten(0, 1)
        row = torch.as_tensor(place, device=batch.device).repeat(len(mine))
        found.append(_Rows(of_batch, row, torch.full_like(row, weight, dtype=torch.float64)))
    return found


def _left_handed(batch: AtomsBatch, atoms: Tensor, centre: Centre) -> Tensor:
    """Whether the first of two like neighbours is the left one, bool [n_instances]: the sign of
    (r_j - r_i) . [(r_l - r_k) x (r_m - r_k)]."""
    first, second = centre.alike
    pairs = (centre.atom, first), (second, centre.others[0]), (second, centre.others[1])
    ij, kl, km = (nearest_vectors(batch, atoms[:, a], atoms[:, b]) for a, b in pairs)
    return (ij * torch.linalg.cross(kl, km)).sum(1) <= 0.0


def _joined(parts: list[_Rows], batch: AtomsBatch) -> _Rows:
    if not parts:
        none = torch.zeros(0, dtype=torch.int64, device=batch.device)
        return _Rows(none.view(0, 1, 2), none, none.double())
    atoms, row, weight = (torch.cat(part) for part in zip(*parts, strict=True))
    return _Rows(atoms, row, weight)
