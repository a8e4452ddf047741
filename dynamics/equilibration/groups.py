"""Which replicas are of one state, and what to compare its density with."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from hff_ase.dynamics.build.expected import recipe_density
from hff_ase.dynamics.replicas.composition import label
from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.structures import mass_density

NEAR = 1.0  # K between a measured density and the temperature of a run


def states(config: ReplicaConfig, structures: Sequence[Atoms]) -> dict[str, list[int]]:
    """Replicas by state: composition, temperature and pressure, whatever their packing."""
    conditions = config.conditions
    found: dict[str, list[int]] = {}
    for replica in range(config.n_replicas):
        own = conditions[config.combination(replica)]
        name = f"{label(structures[own.structure])}, {own.temperature:g} K"
        if len(set(config.pressures)) > 1:
            name += f", {own.pressure:g} bar"
        found.setdefault(name, []).append(replica)
    return found


def expected_density(atoms: Atoms) -> float:
    """That of the recipe in g/cm^3 (molar volumes added up); without one, that of the box."""
    expected = recipe_density(atoms)
    return mass_density(atoms) if expected is None else expected


def measured_density(atoms: Atoms, temperature: float) -> tuple[float, str] | None:
    """Density in g/cm^3 and its source, for one solvent near the temperature it was measured at."""
    from hff_ase.dynamics.build.library import measured

    names = set(atoms.info.get("molecules", ()))
    found = measured(names.pop()) if len(names) == 1 else None
    if found is None or abs(found.temperature - temperature) > NEAR:
        return None
    return found.density, found.source
