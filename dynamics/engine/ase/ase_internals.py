"""The private variables of ASE's Nose-Hoover chains and barostat that restarts need.

ASE offers no way to save these integrators, nor to tell them that 3N - 3 momenta are thermal, so a
run that can be resumed reads and sets their private attributes: here and nowhere else. Their names
are those of ASE 3.25 to 3.29. With a version that has renamed them `refuse_other_ase` ends the run
before its first step; nvt, nve and everything of engine torch need none of them.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import ase
import numpy as np

from hff_ase.errors import SimulationError

TESTED = "3.25 to 3.29"
CHAIN = ("_q", "_p", "_thermostat._eta", "_thermostat._p_eta")
BAROSTAT = ("_eps", "_p_eps", "_volume0", "_cell0", "_barostat._xi", "_barostat._p_xi")
VARIABLES = {"nve": (), "nvt": (), "nvt-nhc": CHAIN, "npt": CHAIN + BAROSTAT}
CONSTANTS = tuple(f"_thermostat.{name}" for name in ("_num_atoms_global", "_Q", "_kT", "_tdamp"))
BAROSTAT_CONSTANTS = ("_num_atoms_global", "_pressure_au", "_get_volume", "_barostat.W")


def refuse_other_ase(dynamics: Any, ensemble: str) -> None:
    """Refuse an integrator of ASE whose private attributes are not those that are known.

    Args:
        dynamics: as ASE made it.
        ensemble: which one it is of.

    Raises:
        SimulationError: names the attribute and the versions that are tested.
    """
    names = VARIABLES[ensemble]
    names += CONSTANTS if CHAIN[-1] in names else ()
    names += BAROSTAT_CONSTANTS if BAROSTAT[-1] in names else ()
    for name in names:
        try:
            attrgetter(name)(dynamics)
        except AttributeError:
            raise SimulationError(
                f"expected ASE {TESTED} for {ensemble} with engine ase, got {ase.__version__}, "
                f"whose {type(dynamics).__name__} has no {name}; a HybridFF runs with engine torch"
            ) from None


def get_variables(dynamics: Any, ensemble: str) -> dict[str, np.ndarray]:
    """Copies of the variables of thermostat and barostat by name, with those of the atoms."""
    return {name: np.array(attrgetter(name)(dynamics)) for name in VARIABLES[ensemble]}


def set_variables(dynamics: Any, ensemble: str, state: dict[str, np.ndarray]) -> None:
    """Put back what `get_variables` gave."""
    for name in VARIABLES[ensemble]:
        owner, _, last = name.rpartition(".")
        value = state[name]
        setattr(
            attrgetter(owner)(dynamics) if owner else dynamics,
            last,
            float(value) if value.ndim == 0 else value.copy(),
        )


def with_bath_energy(dynamics: Any, ensemble: str, energy: float) -> float:
    """An energy of the atoms with those of thermostat and barostat and the work p V added, eV."""
    if ensemble in ("nvt-nhc", "npt"):
        energy += dynamics._thermostat.get_thermostat_energy()
    if ensemble == "npt":
        energy += dynamics._barostat.get_barostat_energy()
        energy += dynamics._p_eps**2 / (2 * dynamics._barostat.W)
        energy += dynamics._pressure_au * dynamics._get_volume()
    return float(energy)


def set_thermal_momenta(dynamics: Any, ensemble: str, n_atoms: int) -> None:
    """Tell a chain (and barostat) of ASE's that 3N - 3 momenta are thermal; ASE counts 3N."""
    thermostat = dynamics._thermostat
    thermostat._num_atoms_global = n_atoms - 1
    thermostat._Q[0] = 3 * (n_atoms - 1) * thermostat._kT * thermostat._tdamp**2
    if ensemble == "npt":
        # d/N_f of Martyna, Tobias and Klein (1994), eq. 2.6, is 1/(N - 1) with N_f = 3N - 3
        dynamics._num_atoms_global = n_atoms - 1
