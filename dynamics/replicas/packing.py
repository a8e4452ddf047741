"""Replicas as the arrays of a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.dynamics.replicas.replica_engine import Replica, ReplicaEngine
from hff_ase.dynamics.simulation.checkpoint import Checkpoint, pack_atoms, unpack_atoms


def pack_structures(structures: Sequence[Atoms]) -> dict[str, np.ndarray]:
    """The starting structures, each stored once for all its replicas."""
    return {
        f"{index}/{name}": array
        for index, atoms in enumerate(structures)
        for name, array in pack_atoms(atoms).items()
    }


def unpack_structures(checkpoint: Checkpoint, config: ReplicaConfig) -> list[Atoms]:
    """The inverse of `pack_structures`."""
    found = []
    for index in range(len(config.structures)):
        prefix = f"{index}/"
        own = {
            name.removeprefix(prefix): array
            for name, array in checkpoint.atoms.items()
            if name.startswith(prefix)
        }
        found.append(unpack_atoms(own))
    return found


def pack_places(engine: ReplicaEngine) -> dict[str, np.ndarray]:
    """Positions and momenta of all replicas' atoms, one after another, and cells."""
    atoms = engine.all_atoms()
    return {
        "places/replica": np.array([replica.index for replica in engine.replicas]),
        "places/positions": np.concatenate([one.positions for one in atoms]),
        "places/momenta": np.concatenate([one.get_momenta() for one in atoms]),
        "places/cell": np.stack([np.asarray(one.cell) for one in atoms]),
    }


def unpack_replicas(
    checkpoint: Checkpoint, config: ReplicaConfig, structures: Sequence[Atoms]
) -> list[Replica]:
    """The replicas that `pack_places` stored in a checkpoint of the dynamics.

    Args:
        structures: as `unpack_structures` gives them.
    """
    configs, conditions = config.replica_configs(), config.conditions
    kept = {
        name: checkpoint.atoms[f"places/{name}"]
        for name in ("replica", "positions", "momenta", "cell")
    }
    replicas, first = [], 0
    for place, number in enumerate(kept["replica"].tolist()):
        atoms = structures[conditions[config.combination(number)].structure].copy()
        inside = slice(first, first + len(atoms))
        atoms.positions = kept["positions"][inside]
        atoms.set_momenta(kept["momenta"][inside])
        atoms.set_cell(kept["cell"][place], scale_atoms=False)
        replicas.append(Replica(number, atoms, configs[number]))
        first = inside.stop
    return replicas
