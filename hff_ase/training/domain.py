"""The domain of a trained model: the molecules of its frames, and what its start knew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.data.dataset import Dataset
from hff_ase.domain import Domain, KnownMolecule
from hff_ase.molecule_graph import MoleculeGraph
from hff_ase.structures import mass_density
from hff_ase.topology import Connectivity, perceive

LOOKED_AT = 3  # frames of each list of elements: first, middle, last
MOST_READ = 2000  # frames of a database, evenly spaced
MOST_ATOMS = 200  # in a molecule; more is a network or a surface, of which graphs say nothing


def domain_of_dataset(dataset: Dataset) -> Domain | None:
    """Molecules, their largest shares and the densities of training frames.

    Of frames with the same elements in the same order three are looked at, and a molecule counts
    that is in at least two of them: what broke in a hot frame is not what the model is for.
    Names are formulas; `KnownMolecule.called` finds better ones.

    Returns:
        None where the frames are not made of molecules of up to 200 atoms.
    """
    alike: dict[bytes, list[int]] = defaultdict(list)
    densities: list[float] = []
    for k in _spaced(len(dataset), MOST_READ):
        batch = dataset[k][0]
        alike[batch.numbers.numpy().tobytes()].append(k)
        if bool(batch.periodic[0]):
            densities.append(mass_density(atoms_of(batch)))
    found: dict[str, list[tuple[MoleculeGraph, float]]] = defaultdict(list)
    for places in alike.values():
        chosen = [places[k] for k in _spaced(len(places), LOOKED_AT)]
        topologies = [perceive(atoms_of(dataset[k][0])) for k in chosen]
        if any(len(atoms) > MOST_ATOMS for t in topologies for atoms in t.members):
            return None
        for graph, share in _common(topologies):
            same = found[graph.key]
            place = next((k for k, (known, _) in enumerate(same) if known.is_same(graph)), None)
            if place is None:
                same.append((graph, share))
            else:
                same[place] = graph, max(same[place][1], share)
    molecules = tuple(
        KnownMolecule(graph.formula, graph, share=share)
        for same in found.values()
        for graph, share in same
    )
    if not molecules:
        return None
    density = (min(densities), max(densities)) if densities else None
    return Domain(molecules, density=density)


def atoms_of(batch: AtomsBatch) -> Atoms:
    """The structure of a batch of one system."""
    periodic = bool(batch.periodic[0])
    return Atoms(
        numbers=batch.numbers.numpy(),
        positions=batch.positions.numpy(),
        cell=batch.cell[0].numpy() if periodic else None,
        pbc=periodic,
        info={"charge": float(batch.charge[0])},
    )


def _spaced(number: int, most: int) -> list[int]:
    """At most this many of the indices below ``number``, evenly spaced, the ends among them."""
    return sorted({round(x) for x in np.linspace(0, number - 1, min(number, most))})


def _common(topologies: Sequence[Connectivity]) -> list[tuple[MoleculeGraph, float]]:
    """Kinds of molecules in at least two of the topologies (in the one), with largest shares."""
    seen: dict[str, list[tuple[MoleculeGraph, float]]] = defaultdict(list)
    for topology in topologies:
        for kind in topology.kinds():
            share = kind.count / topology.n_molecules
            seen[kind.graph.key].append((kind.graph, share))
    least = min(2, len(topologies))
    return [
        (same[0][0], max(share for _, share in same))
        for same in seen.values()
        if len(same) >= least
    ]
