"""From starting structures to replicas that are ready to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.dynamics.engine.momenta import set_momenta
from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.dynamics.replicas.replica_engine import Replica
from hff_ase.dynamics.start.minimize import minimize


def relax(
    structures: Sequence[Atoms],
    config: ReplicaConfig,
    calc: Any,
    watch: Callable[[int, float, float], None],
) -> list[dict[str, float | int | bool]]:
    """Minimise the structures one after another, before replicas are copied from them.

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


def make_replicas(structures: Sequence[Atoms], config: ReplicaConfig) -> list[Replica]:
    """The replicas with their starting velocities.

    Velocities depend on the seed and the replica's number alone, and add up to no momentum.
    """
    conditions, replicas = config.conditions, []
    for index, settings in enumerate(config.replica_configs()):
        atoms = structures[conditions[config.combination(index)].structure].copy()
        set_momenta(atoms, settings, np.random.default_rng([settings.seed, index]))
        replicas.append(Replica(index, atoms, settings))
    return replicas
