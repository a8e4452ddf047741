"""Relaxing the atoms before a run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.optimize import FIRE, LBFGS

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.guards.checks import check_results

# FIRE limits the norm of a step over all atoms; this per atom keeps large boxes moving
STEP_PER_ATOM = 0.02  # Angstrom


def minimize(
    atoms: Atoms, config: MDConfig, watch: Callable[[int, float, float], None]
) -> dict[str, float | int | bool]:
    """Relax the positions at fixed cell, for a limited number of steps.

    Args:
        atoms: changed in place.
        config: which minimiser, how many steps, to what force.
        watch: called at every step with the step, the energy in eV and the largest force in
            eV/Angstrom.

    Returns:
        Steps, whether the largest force came below ``fmax``, energies before and after, the
        largest force after.

    Raises:
        SimulationError: an energy or force is not finite; names the atom.
    """
    if config.minimizer == "fire":
        optimizer = FIRE(atoms, logfile=None, maxstep=max(0.2, STEP_PER_ATOM * len(atoms) ** 0.5))
    else:
        optimizer = LBFGS(atoms, logfile=None, maxstep=0.1)  # type: ignore[arg-type]
    energies: list[float] = []
    largest = float("nan")
    for _ in optimizer.irun(fmax=config.fmax, steps=config.minimize_steps):
        energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
        check_results(atoms, energy, forces)
        largest = float(np.linalg.norm(forces, axis=1).max())
        watch(len(energies), energy, largest)
        energies.append(energy)
    return {
        "steps": len(energies) - 1,
        "converged": largest < config.fmax,
        "energy_before_eV": energies[0],
        "energy_after_eV": energies[-1],
        "largest_force_eV_per_A": largest,
    }
