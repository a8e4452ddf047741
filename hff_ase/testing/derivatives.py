"""Checks of forces and stress against differences of the energy, term by term."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.neighbors import NeighborList
from hff_ase.potential import HybridPotential
from hff_ase.testing.compare import (
    Arrays,
    assert_close,
    device_of,
    evaluate,
    in_float64,
    label,
    samples_for,
)

STEP = 1e-5  # Angstrom, and strain: small, so that few pairs cross a cutoff; float64 bears it
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def check_forces(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    tolerance: float = 1e-6,
    n_directions: int = 8,
    seed: int = 0,
) -> None:
    """Forces are the negative gradient of the energy, for every term and for the sum.

    Central differences in float64 along single coordinates and along random directions of all
    atoms. What is missing from a gradient (a charge that depends on positions, say) is missing
    from the conserved energy of a trajectory. A term whose energy steps at its cutoff fails where
    a pair happens to cross it.

    Args:
        tolerance: relative to the largest force of the term, at least 1 eV/Angstrom.
    """
    potential = in_float64(potential)
    rng = np.random.default_rng(seed)
    for atoms in samples_for(potential, structures):
        size = atoms.positions.size
        single = np.eye(size)[rng.permutation(size)[:n_directions]]
        directions = np.concatenate([single, rng.normal(size=(2, size)) / np.sqrt(size)])
        steps = directions.reshape(-1, len(atoms), 3)
        changed = [_moved(atoms, sign * STEP * v) for v in steps for sign in (1, -1)]
        slopes = _slopes(potential, atoms, changed)
        for name, (forces, _) in term_gradients(potential, atoms).items():
            expected = -np.einsum("vax,ax->v", steps, forces)
            scale = max(1.0, float(np.abs(forces).max()))
            what = f"slopes of the energy of {name} of {label(atoms)} against its forces"
            assert_close(what, slopes[name] / scale, expected / scale, tolerance)


def check_stress(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    tolerance: float = 1e-6,
) -> None:
    """Stress is the derivative of the energy by strain, for every term and for the sum.

    All six components by central differences in float64: of positions, cell, images, reciprocal
    vectors and volume, none may be left out.

    Args:
        tolerance: relative to the largest component of the term's virial, at least 1 eV.
    """
    potential = in_float64(potential)
    for atoms in samples_for(potential, structures):
        if not atoms.pbc.all():
            continue
        strains = np.zeros((6, 3, 3))
        for k, (a, b) in enumerate(VOIGT):
            strains[k, a, b] += 0.5
            strains[k, b, a] += 0.5
        changed = [strained(atoms, sign * STEP * e) for e in strains for sign in (1, -1)]
        slopes = _slopes(potential, atoms, changed)
        for name, (_, virial) in term_gradients(potential, atoms).items():
            expected = np.einsum("vab,ab->v", strains, virial)
            scale = max(1.0, float(np.abs(virial).max()))
            what = f"slopes of the energy of {name} of {label(atoms)} against its stress (Voigt)"
            assert_close(what, slopes[name] / scale, expected / scale, tolerance)


def check_consistent_sum(
    potential: HybridPotential, structures: Iterable[Atoms] | None = None
) -> None:
    """One backward pass gives the sum of the terms' own derivatives.

    Custom backward passes with shortcuts for an energy's gradient are what this is after.
    """
    potential = in_float64(potential)
    for atoms in samples_for(potential, structures):
        (result,) = evaluate(potential, atoms)
        gradients = term_gradients(potential, atoms)
        gradients.pop("the sum")
        forces = np.sum([forces for forces, _ in gradients.values()], axis=0)
        virial = np.sum([virial for _, virial in gradients.values()], axis=0)
        assert_close(
            f"forces of {label(atoms)} against those of terms", result["forces"], forces, 1e-9
        )
        if atoms.pbc.all():
            stress = result["stress"] * atoms.get_volume()
            assert_close(f"stress of {label(atoms)} against that of terms", stress, virial, 1e-9)


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """A structure under a strain [3, 3]: positions and cell times (1 + strain)."""
    atoms = atoms.copy()
    atoms.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + strain), scale_atoms=False)
    atoms.positions = atoms.positions @ (np.eye(3) + strain)
    return atoms


def term_gradients(
    potential: HybridPotential, atoms: Atoms
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Forces [n_atoms, 3] and dE/dstrain [3, 3] of every term and of ``the sum``, in eV.

    The strain is an input of the graph here, while `HybridPotential` takes its stress from the
    derivatives in positions and cell: two ways to the same numbers.
    """
    batch = AtomsBatch.from_atoms(atoms, device_of(potential))
    neighbors = potential.neighbor_list()
    neighbors.update(batch)
    positions = batch.positions.detach().requires_grad_()
    strain = torch.zeros_like(batch.cell).requires_grad_()
    with torch.enable_grad():
        deformation = torch.eye(3).to(strain) + 0.5 * (strain + strain.mT)
        cell = batch.cell @ deformation if batch.any_periodic else batch.cell
        moved = batch.moved(positions @ deformation[0], cell)
        _, atomic = potential.evaluate_terms(moved, neighbors)
        energies = {repr(name): value.sum() for name, value in atomic.items()}
        energies["the sum"] = torch.stack(list(energies.values())).sum()
    gradients = {}
    for name, energy in energies.items():
        if not energy.requires_grad:  # reference energies of single atoms, say
            gradients[name] = (np.zeros(batch.positions.shape), np.zeros((3, 3)))
            continue
        on_atoms, on_strain = torch.autograd.grad(
            energy, (positions, strain), retain_graph=True, allow_unused=True
        )
        gradients[name] = (
            np.zeros(batch.positions.shape) if on_atoms is None else -on_atoms.cpu().numpy(),
            np.zeros((3, 3)) if on_strain is None else on_strain[0].cpu().numpy(),
        )
    return gradients


def _slopes(potential: HybridPotential, atoms: Atoms, changed: list[Atoms]) -> Arrays:
    """(E[+] - E[-]) / 2 step of every term and of the sum for pairs of changed structures."""
    device = device_of(potential)
    # The lists of the unchanged structure: wave vectors and meshes are chosen once, as in a run.
    neighbors: NeighborList = potential.neighbor_list(skin=0.1)
    neighbors.build(AtomsBatch.from_atoms([atoms] * len(changed), device))
    batch = AtomsBatch.from_atoms(changed, device)
    result = potential(batch, neighbors, forces=False, stress=False)
    if neighbors.n_builds != 1:
        raise AssertionError(f"a change of {STEP} made the neighbour list of {label(atoms)} anew")
    energies = {repr(name): value for name, value in result.energy_terms.items()}
    energies["the sum"] = result.energy
    return {
        name: (value[0::2] - value[1::2]).detach().cpu().numpy() / (2.0 * STEP)
        for name, value in energies.items()
    }


def _moved(atoms: Atoms, step: np.ndarray) -> Atoms:
    atoms = atoms.copy()
    atoms.positions += step
    return atoms
