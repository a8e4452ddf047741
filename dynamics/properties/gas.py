"""Heat of vaporisation of a window, from its liquid and single molecules in the gas."""

from __future__ import annotations

from hff_ase.dynamics.observables.observable import Observable, combine
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.dynamics.observables.thermodynamic import heat_of_vaporisation
from hff_ase.dynamics.properties.material import POTENTIAL
from hff_ase.dynamics.properties.state import GAS, PRESSURE, Stretch
from hff_ase.dynamics.properties.window import Window
from hff_ase.errors import ConfigError


def heat_of_vaporisation_of(window: Window) -> dict[str, Observable]:
    """Heat of vaporisation of the whole liquid: E(gas) - E(liquid)/N + RT.

    The gas is ideal and of single molecules (carboxylic acids pair), the volume of the liquid is
    left out (0.01 kJ/mol), nuclei are classical: what freezes or shifts in the vibrations from
    liquid to gas is not in it, some tenths of a kJ/mol, more with hydrogen bonds.
    """
    material, topology = window.material, window.topology
    energies, interval = window.series(PRESSURE, POTENTIAL)
    liquid = mean_with_error(energies, interval, "eV", "mean at constant pressure")
    rows, every = material.rows(GAS)
    stretches = material.stretches(GAS)
    parts: dict[str, Observable] = {}
    for place, kind in enumerate(topology.kinds):
        own = [
            table[POTENTIAL]
            for table, stretch in zip(rows, stretches, strict=True)
            if kind_of(stretch) == kind
        ]
        if not own:
            raise ConfigError(f"expected single molecules of {kind}, got none")
        parts[f"k{place}"] = mean_with_error(own, every, "eV", "mean of single molecules")
    shares = {
        f"k{place}": len(topology.of_kind(kind)) / topology.n_molecules
        for place, kind in enumerate(topology.kinds)
    }

    def of_mixture(**values: float) -> float:
        return sum(shares[name] * value for name, value in values.items())

    gas = combine(
        of_mixture,
        parts,
        "eV",
        "mean of single molecules",
    )
    n, kelvin = topology.n_molecules, window.temperature
    return {"heat_of_vaporisation": heat_of_vaporisation(liquid, gas, n, kelvin)}


def kind_of(stretch: Stretch) -> str:
    """Species of a single molecule.

    Raises:
        ConfigError: a run of something else.
    """
    kinds: tuple[str, ...] = getattr(stretch.topology, "kinds", ())
    if len(kinds) != 1:
        raise ConfigError(f"expected a single molecule, got {', '.join(kinds) or 'a file'}")
    return str(kinds[0])
