"""Structure of a window: scattering, angles in first shells, Kirkwood-Buff integrals, charges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.contacts import Contacts
from hff_ase.dynamics.observables.distributions import (
    States,
    angles_of_frames,
    mean_angle,
    mean_charges,
)
from hff_ase.dynamics.observables.kirkwood_buff import (
    factor_of_mixture,
    factor_of_salt,
    kirkwood_buff,
)
from hff_ase.dynamics.observables.observable import Observable, combine
from hff_ase.dynamics.observables.rdf import PairDistributions
from hff_ase.dynamics.observables.solvation import STATES, speciation
from hff_ase.dynamics.observables.structure_factor import first_peak
from hff_ase.dynamics.observables.topology import Topology
from hff_ase.dynamics.properties.charges import charged_frames
from hff_ase.dynamics.properties.material import BINDING, CHARGES_KEPT
from hff_ase.dynamics.properties.shells import cations, interval_of
from hff_ase.dynamics.properties.window import Window
from hff_ase.errors import ConfigError

Found = dict[str, Observable]
Array = NDArray[np.float64]
RADIATIONS = ("xray", "neutron")
HALF_BOX = float("inf")  # as far as half the box goes
BOUND = ("free", "bound")  # of molecules: whether they touch a cation


# --- scattering ------------------------------------------------------------------------------


def scattering_of(window: Window) -> Found:
    """Main peaks of the x-ray and the neutron structure factor."""
    found: Found = {}
    pairs, numbers = element_pairs(window)
    for radiation in RADIATIONS:
        for name, one in first_peak(pairs, numbers, radiation).items():
            found[f"structure_factor_peak/{radiation}/{name}"] = one
    return found


def element_pairs(window: Window) -> tuple[PairDistributions, dict[str, int]]:
    """g(r) of all pairs of elements, and the number of atoms of each."""
    symbols, counts = np.unique(window.topology.symbols, return_counts=True)
    numbers = dict(zip(symbols.tolist(), counts.tolist(), strict=True))
    names = [f"{a}-{b}" for a, b in combinations_with_replacement(numbers, 2)]
    return window.material.pairs(tuple(names)), numbers


# --- angles ----------------------------------------------------------------------------------


def angles_of(window: Window) -> Found:
    """Mean angles between the atoms that bind a cation."""
    found: Found = {}
    for name, runs, interval in shell_angles(window):
        try:
            found[f"angle/{name}"] = mean_angle(runs, interval)
        except ConfigError:
            continue  # such as F-Li-F, where no two anions ever meet at one cation
    if not found:
        raise ConfigError("expected two atoms of N, O or F around a cation, got none")
    return found


def shell_angles(window: Window) -> Iterator[tuple[str, list[list[Array]], float]]:
    """Elements of each angle in the shells of the cations, its angles in every frame, interval."""
    material, topology = window.material, window.topology
    for kind in cations(topology):
        centre = centre_of(topology, kind)
        reach = {one: r for one, r in material.cutoffs(kind).items() if one in BINDING}
        every, interval = material.every_of_contacts, interval_of(window.contacts(kind))
        for one, other in combinations_with_replacement(reach, 2):
            runs = [
                angles_of_frames(frames, one, centre, other, reach[one], reach[other], every)
                for frames in window.chosen(material.frames(material.sampled))
            ]
            yield f"{one}-{centre}-{other}", [run[: window.n_of(run)] for run in runs], interval


def centre_of(topology: Topology, kind: str) -> str:
    """Element of the first atom of a cation."""
    return str(topology.symbols[topology.molecule == topology.of_kind(kind)[0]][0])


# --- Kirkwood and Buff -----------------------------------------------------------------------


def kirkwood_buff_of(window: Window) -> Found:
    """Kirkwood-Buff integrals of all pairs of species, and the thermodynamic factor of a mixture
    of two neutral liquids or of a 1:1 salt in one solvent."""
    pairs, reach = centre_pairs(window)
    integrals = {name: kirkwood_buff(pairs, name, reach) for name in pairs.g}
    found = {f"kirkwood_buff/{name}": one for name, one in integrals.items()}
    factor = _factor(window.topology, integrals, pairs.volume)
    return found if factor is None else found | {"thermodynamic_factor": factor}


def centre_pairs(window: Window) -> tuple[PairDistributions, float]:
    """g(r) of the centres of all pairs of species, and the largest sphere within half the box."""
    kinds = combinations_with_replacement(window.topology.kinds, 2)
    names = tuple(f"{a}-{b}" for a, b in kinds)
    pairs = window.material.pairs(names, "centres", HALF_BOX)
    limit = 0.5 * pairs.volume ** (1 / 3)
    return pairs, float(pairs.edges[pairs.edges <= limit * (1 + 1e-9)][-1])


def _factor(
    topology: Topology, integrals: Mapping[str, Observable], volume: float
) -> Observable | None:
    """The thermodynamic factor; None for other liquids, or where formal charges are unknown."""
    if topology.charges is None:
        return None
    charges = topology.kind_charges()
    density = {kind: len(topology.of_kind(kind)) / volume for kind in charges}
    neutral = [kind for kind, charge in charges.items() if charge == 0]
    ions = [kind for kind, charge in charges.items() if charge != 0]

    def of(one: str, other: str) -> Observable | None:
        return integrals.get(f"{one}-{other}") or integrals.get(f"{other}-{one}")

    if len(neutral) == 2 and not ions:
        one, other = neutral
        parts = of(one, one), of(other, other), of(one, other)
        if any(part is None for part in parts):
            return None
        return factor_of_mixture(*parts, density[one], density[other])  # type: ignore[arg-type]
    if len(neutral) == 1 and len(ions) == 2 and sorted(charges[k] for k in ions) == [-1.0, 1.0]:
        pair = of(*ions)
        solvent = [of(ion, neutral[0]) for ion in ions]
        if pair is None or None in solvent:
            return None
        mean = combine(
            lambda first, second: 0.5 * (first + second),
            {"first": solvent[0], "second": solvent[1]},  # type: ignore[dict-item]
            "A^3",
            "mean of both ions",
        )
        return factor_of_salt(pair, mean, density[ions[0]])
    return None


# --- charges ---------------------------------------------------------------------------------


def charges_of(window: Window) -> Found:
    """Mean charges of the elements of each species, by solvation state where there are ions."""
    runs, labels, interval = charges_by_state(window)
    return {
        f"charge/{name.replace(' ', '/')}": one
        for name, one in mean_charges(runs, labels, interval).items()
    }


def charges_by_state(
    window: Window,
) -> tuple[list[tuple[Array, dict[str, States]]], NDArray[np.str_], float]:
    """Charges and states of each replica, labels of atoms such as ``EC-O``, time between frames.

    Cations are sorted by SSIP, CIP and AGG, the N, O and F of other molecules by whether these
    touch a cation.
    """
    material, topology = window.material, window.topology
    species = topology.species[topology.molecule]
    alone = np.isin(topology.molecule, np.flatnonzero(np.bincount(topology.molecule) == 1))
    joined = [f"{kind}-{symbol}" for kind, symbol in zip(species, topology.symbols, strict=True)]
    labels = np.where(alone, species, np.array(joined))
    known = topology.kind_charges() if topology.charges is not None else {}
    ions = [kind for kind, charge in known.items() if charge > 0]
    contacts: dict[str, list[Contacts]] = {kind: window.contacts(kind) for kind in ions}
    runs: list[tuple[Array, dict[str, States]]] = []
    interval = 1.0
    for number, (frames, charges_at) in enumerate(charged_frames(material, material.sampled)):
        if window.replica not in (None, number):
            continue
        own: list[Contacts] = [one[len(runs)] for one in contacts.values()]
        times = own[0].times if own else _times(window, frames)
        times = times[: max(int(CHARGES_KEPT / topology.n_atoms), 2)]
        charges = np.broadcast_to(charges_at(times), (len(times), topology.n_atoms))
        interval = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
        runs.append(
            (charges, _states(topology, labels, dict(zip(ions, own, strict=True)), len(times)))
        )
    return runs, labels, interval


def _times(window: Window, frames: Any) -> Array:
    """Times of the frames that count, thinned as contacts are."""
    times = np.concatenate([part.times for part in frames])[:: window.material.every_of_contacts]
    return times[: window.n_of(times)]


def _states(
    topology: Topology, labels: NDArray[np.str_], contacts: Mapping[str, Contacts], n_frames: int
) -> dict[str, States]:
    """States of the atoms of each label that has them [n_frames, n_atoms of it]."""
    if not contacts:
        return {}
    found: dict[str, States] = {}
    touched = np.zeros((n_frames, topology.n_molecules), dtype=np.int64)
    charges = topology.kind_charges()
    anions = [kind for kind, charge in charges.items() if charge < 0]
    for kind, own in contacts.items():
        for frame, pairs in enumerate(own.pairs[:n_frames]):
            touched[frame, pairs[:, 1]] = 1
        if anions and kind in labels:
            found[kind] = speciation(own, anions).states[:n_frames], STATES
    for label in dict.fromkeys(labels.tolist()):
        first = int(np.flatnonzero(labels == label)[0])
        kind, element = str(topology.species[topology.molecule[first]]), topology.symbols[first]
        if element in BINDING and charges.get(kind, 1.0) <= 0:
            found[label] = touched[:, topology.molecule[labels == label]], BOUND
    return found
