"""From starting structures to replicas that are about to move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.dynamics.integrators import random_momenta
from hff_ase.dynamics.minimize import minimize
from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.dynamics.replicas.mover import Replica


def relax(
    structures: Sequence[Atoms],
    config: ReplicaConfig,
    calc: Any,
    watch: Callable[[int, float, float], None],
) -> list[dict[str, float | int | bool]]:
    """Minimise the structures one after another; copies of them are replicas.

    Args:
        structures: changed in place.
        config: how far.
        calc: a HybridFF.
        watch: as `minimize` calls it.

    Raises:
        SimulationError: an energy or force is not finite; names the atom.
    """
    done = []
    for atoms in structures:
        calc.set_state({})  # the result must not depend on what was evaluated before
        atoms.calc = calc
        done.append(minimize(atoms, config.shared, watch))
        atoms.calc = None
    return done


def deal(structures: Sequence[Atoms], config: ReplicaConfig) -> list[Replica]:
    """The replicas with their starting velocities.

    Velocities depend on the seed and the replica's number alone, and add up to no momentum.
    """
    conditions, replicas = config.conditions, []
    for index, settings in enumerate(config.replica_configs()):
        atoms = structures[conditions[config.combination(index)].structure].copy()
        momenta = atoms.get_momenta()
        if settings.velocities == "random":
            rng = np.random.default_rng([settings.seed, index])
            momenta = random_momenta(atoms, settings.temperature, rng)
        masses = atoms.get_masses()[:, None]
        atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())
        replicas.append(Replica(index, atoms, settings))
    return replicas
