"""Checks of where interactions end, and of lists that hold more or fewer pairs than needed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.potential import HybridPotential
from hff_ase.testing.compare import (
    assert_close,
    device_of,
    evaluate,
    label,
    per_system,
    precision,
    samples_for,
)
from hff_ase.testing.derivatives import strained, term_gradients
from hff_ase.testing.structures import ELEMENTS, cluster


def local_terms(potential: HybridPotential) -> HybridPotential | None:
    """The terms that end at their cutoff: those without charges and sums over all distances."""
    names = [
        name
        for name, term in potential.named_terms()
        if "charges" not in (*term.needs, *term.gives)
        and all(request.kind != "isolated" for request in term.requests())
    ]
    return potential.subset(names) if names else None


def check_additive(potential: HybridPotential, tolerance: float | None = None) -> None:
    """Two fragments out of each other's reach have the sum of their energies.

    For terms that end at a cutoff; charges and Coulomb energies reach farther by nature.
    """
    local = local_terms(potential)
    if local is None:
        return
    elements = potential.elements or ELEMENTS
    a = cluster("".join(elements), seed=11)
    b = cluster("".join(elements[::-1]), seed=12)
    extent = np.ptp(np.concatenate([a.positions, b.positions]), axis=0).max()
    b.positions[:, 2] += 2 * extent + local.cutoff
    together, alone_a, alone_b = evaluate(local, [a + b, a, b])
    tolerance = precision(potential) if tolerance is None else tolerance
    for name in ("atomic energies", "forces"):
        expected = np.concatenate([alone_a[name], alone_b[name]])
        what = f"{name} of two distant clusters, together and apart"
        assert_close(what, together[name], expected, tolerance)


def check_zero_beyond_cutoff(potential: HybridPotential) -> None:
    """Two atoms at the cutoff or farther apart exert exactly no force on each other.

    Each term that ends at a cutoff, for every pair of neighbours in the list of elements. What is
    left at the cutoff makes energy drift in a run.
    """
    elements = potential.elements or ELEMENTS
    local = local_terms(potential)
    if local is None:
        return
    for name, term in local.named_terms():
        for a, b in pairwise((*elements, elements[0])):
            for factor in (1.0, 1.0 + 1e-12, 1.001, 2.0):
                # along one axis, so that the distance is exact
                dimer = Atoms([a, b], [[0, 0, 0], [term.cutoff * factor, 0, 0]])
                forces, _ = term_gradients(local, dimer)[repr(name)]
                if (forces != 0.0).any():
                    raise AssertionError(
                        f"term {name!r}: {a}-{b} at {factor} times the cutoff of {term.cutoff} A "
                        f"has a force of {np.abs(forces).max():.1e} eV/A, not zero"
                    )


def check_smooth_at_cutoff(
    potential: HybridPotential, term_name: str, tolerance: float = 1e-6
) -> None:
    """What an atom adds to the energy of two others goes out with its first two derivatives.

    Not part of `check_potential`: an imported model may end otherwise. There are two others since
    a network may be smoother between two atoms than it is among more.

    Args:
        tolerance: for eV, eV/Angstrom and eV/Angstrom^2 at 1e-4 Angstrom before the cutoff.
    """
    elements = potential.elements or ELEMENTS
    term = dict(potential.named_terms())[term_name]
    before, h = 2e-4, 1e-4
    for a, b in pairwise((*elements, elements[0])):
        positions = [term.cutoff - before - h, term.cutoff - before + h, 2 * term.cutoff]
        # the atom in question comes first; the third is out of its reach
        trimers = [Atoms([b, a, a], [[x, 0, 0], [0, 0, 0], [-1.5, 0.5, 0]]) for x in positions]
        low, high = (term_gradients(potential, atoms)[repr(term_name)] for atoms in trimers[:2])
        slope = 0.5 * (low[0] + high[0])[0, 0]
        curvature = (high[0] - low[0])[0, 0] / (2 * h)
        together, alone = (evaluate(potential, atoms)[0] for atoms in trimers[1:])
        energy = float(together[f"energy of {term_name!r}"] - alone[f"energy of {term_name!r}"])
        # f ~ (rc - r)^3 has f'' = 6 (rc - r): what a smooth end still has so close to it.
        for what, value in (("energy", energy), ("slope", slope), ("curvature", curvature)):
            if not abs(value) <= tolerance:
                raise AssertionError(
                    f"term {term_name!r}, {b} near {a}: expected a {what} below {tolerance} just "
                    f"before the cutoff of {term.cutoff} A, got {value:.2e}"
                )


def check_empty_neighborhoods(potential: HybridPotential) -> None:
    """Atoms without neighbours have finite energies, and no force where nothing reaches them.

    Gas phase, evaporation, one ion in a large box: empty pair lists must pass through everything.
    """
    elements, local = potential.elements or ELEMENTS, local_terms(potential)
    far = 3.0 * max(potential.cutoff, 1.0)
    gas = Atoms(list(elements), np.arange(3 * len(elements)).reshape(-1, 3) * far)
    box = Atoms(elements[0], cell=np.eye(3) * (potential.cutoff + 2.0), pbc=True)
    for atoms in (gas, box, Atoms(elements[0])):
        (result,) = evaluate(potential, atoms)
        for name, value in result.items():
            assert_close(f"{name} of {label(atoms)} without neighbours", value, value, 0.0)
        if local is not None and (evaluate(local, atoms)[0]["forces"] != 0.0).any():
            raise AssertionError(f"{label(atoms)}: forces on atoms without neighbours")


def check_padded_list(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    tolerance: float | None = None,
) -> None:
    """Pairs beyond a term's cutoff in its list change nothing.

    Lists are padded with them wherever trimming would cost more than it saves.
    """
    structures = samples_for(potential, structures)
    batch = AtomsBatch.from_atoms(structures, device_of(potential))
    neighbors = potential.neighbor_list(skin=1.5)
    neighbors.trims = False  # all that the list holds, as on a GPU
    padded = per_system(potential(batch, neighbors), batch)
    tolerance = precision(potential) if tolerance is None else tolerance
    for atoms, got, expected in zip(
        structures, padded, evaluate(potential, structures), strict=True
    ):
        for name, value in expected.items():
            assert_close(
                f"{name} of {label(atoms)} with a padded list", got[name], value, tolerance
            )


def check_skin(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> None:
    """A list that is reused while atoms and cells move gives what a fresh one gives.

    The cutoff of a lattice sum stays where the list was built: give its accuracy as the tolerance.
    """
    rng = np.random.default_rng(seed)
    structures = [atoms.copy() for atoms in samples_for(potential, structures)]
    neighbors = potential.neighbor_list(skin=1.0)
    device = device_of(potential)
    potential(AtomsBatch.from_atoms(structures, device), neighbors)
    tolerance = precision(potential) if tolerance is None else tolerance
    for _ in range(3):
        strain = rng.normal(scale=0.003, size=(3, 3))
        structures = [strained(s, strain) if s.pbc.any() else s for s in structures]
        for atoms in structures:
            atoms.positions += rng.uniform(-0.03, 0.03, atoms.positions.shape)
        batch = AtomsBatch.from_atoms(structures, device)
        reused = per_system(potential(batch, neighbors), batch)
        fresh = evaluate(potential, structures)
        for atoms, got, expected in zip(structures, reused, fresh, strict=True):
            for name, value in expected.items():
                what = f"{name} of {label(atoms)} with a reused neighbour list"
                assert_close(what, got[name], value, tolerance)
