"""Transport coefficients of a window: diffusion, viscosity, conductivity, transference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.conductivity import conductivity, ionicity, nernst_einstein
from hff_ase.dynamics.observables.diffusion import cubic_edge, self_diffusion, yeh_hummer
from hff_ase.dynamics.observables.driven import driven_conductivity, driven_viscosity
from hff_ase.dynamics.observables.equilibration import equilibration_time
from hff_ase.dynamics.observables.green_kubo import viscosity
from hff_ase.dynamics.observables.observable import Observable, refuse
from hff_ase.dynamics.observables.onsager import Onsager, onsager_matrix
from hff_ase.dynamics.observables.transference import stefan_maxwell, transference
from hff_ase.dynamics.observables.viscosity import spectral_viscosity
from hff_ase.dynamics.properties.material import DENSITY
from hff_ase.dynamics.properties.state import VOLUME
from hff_ase.dynamics.properties.window import Window
from hff_ase.dynamics.reporters.statistics import FLOW
from hff_ase.errors import ConfigError, SimulationError

Found = dict[str, Observable]
Array = NDArray[np.float64]
BLOCKS, LONGEST = 10, 10.0  # of Green and Kubo's integral: blocks at least; ps
FEWEST = 40  # frames, for a spectrum of collective motion


def viscosity_of(window: Window) -> Found:
    """Shear viscosity from the spectrum of the stress, and by Green and Kubo's integral."""
    tensors, interval = window.tensors()
    volume, temperature = window.volume(), window.temperature
    return {
        "viscosity": spectral_viscosity(tensors, interval, volume, temperature),
        "viscosity/green_kubo": green_kubo(tensors, interval, volume, temperature),
    }


def green_kubo(
    tensors: list[Array], interval: float, volume: float, temperature: float
) -> Observable:
    """Green and Kubo's viscosity of several runs: each gives the same number of whole blocks."""
    each = -(-BLOCKS // len(tensors))
    length = min(map(len, tensors)) // each
    joined = np.concatenate([one[: each * length] for one in tensors])
    longest = min(LONGEST, 0.45 * length * interval)
    duration = interval * len(joined)
    try:
        found = viscosity(joined, interval, volume, temperature, longest, each * len(tensors))
    except (ConfigError, SimulationError) as reason:
        return refuse("mPa s", "Green-Kubo", str(reason), length=duration, needs=4.0)
    return found.observable(duration)


def diffusion_of(window: Window) -> Found:
    """Self-diffusion of every species, in the box and corrected to an infinite system."""
    runs, found = window.centres(), {}
    eta = (window.found or {}).get("viscosity")
    for kind in window.topology.kinds:
        own = self_diffusion(runs, kind)
        found[f"self_diffusion/{kind}"] = own
        if eta is None or eta.refused or own.refused:
            continue
        try:
            edge = cubic_edge(runs[0].cells[0])
        except ConfigError:
            continue
        found[f"self_diffusion_infinite/{kind}"] = yeh_hummer(own, eta, window.temperature, edge)
    return found


def conductivity_of(window: Window) -> Found:
    """Collective conductivity, that of independent ions, and their ratio."""
    matrix, known = onsager_of(window), window.found or {}
    charges = window.topology.kind_charges()
    ions = [kind for kind in matrix.kinds if charges[kind] != 0]
    runs = window.centres()
    diffusion = {
        kind: known.get(f"self_diffusion/{kind}") or self_diffusion(runs, kind) for kind in ions
    }
    numbers = {kind: len(window.topology.of_kind(kind)) for kind in ions}
    volume, temperature = window.volume(), window.temperature
    independent = nernst_einstein(diffusion, charges, numbers, volume, temperature)
    collective = conductivity(matrix)
    found = {"conductivity": collective, "conductivity/nernst_einstein": independent}
    if not (collective.refused or independent.refused):
        found["ionicity"] = ionicity(collective, independent)
    return found


def driven_of(window: Window) -> Found:
    """Conductivity from the current that the run's electric field drives."""
    field = window.material.state.about.get("field")
    if not field:
        raise ConfigError("expected a run in an electric field (hff md --field), got none")
    if window.material.state.about.get("field_frequency"):
        raise ConfigError("expected a field that is constant in time, got a cosine")
    return {"driven_conductivity": driven_conductivity(window.centres(), field)}


def driven_viscosity_of(window: Window) -> Found:
    """Viscosity of the flow that the shear of the run drives, once the flow is steady."""
    shear = window.material.state.about.get("shear")
    if not shear:
        raise ConfigError("expected a run of a sheared liquid (hff md --shear), got none")
    flows, interval = window.series(VOLUME, FLOW)
    steady = max(equilibration_time(one) for one in flows)
    density = float(np.mean([one.mean() for one in window.series(VOLUME, DENSITY)[0]]))
    wavelength = float(window.centres()[0].cells[0, 2, 2])
    rest = [one[steady:] for one in flows]
    return {"driven_viscosity": driven_viscosity(rest, shear, wavelength, density, interval)}


def transference_of(window: Window) -> Found:
    """Transference number of every cation, relative to the solvent, the centre of mass and, where
    the library knows how much room every species takes, the volume."""
    matrix = onsager_of(window)
    frames: dict[str, Mapping[str, float] | None] = {"mass": None}
    if (matrix.charges == 0).any():
        frames = {"solvent": None, **frames}
    volumes = molar_volumes(matrix.kinds)
    if volumes is not None:
        frames["volume"] = volumes
    return {
        f"transference_number/{kind}/{frame}": transference(matrix, kind, frame, known)
        for kind, charge in zip(matrix.kinds, matrix.charges, strict=True)
        if charge > 0
        for frame, known in frames.items()
    }


def molar_volumes(kinds: Sequence[str]) -> dict[str, float] | None:
    """Molar volumes of species in solution, cm3/mol, of the library of molecules, where Li+ has
    none; None where it does not know one of them."""
    from hff_ase.dynamics.build.library import ions, solvents

    known = {**solvents(), **ions()}
    if not all(kind in known for kind in kinds):
        return None
    return {kind: known[kind].molar_volume for kind in kinds}


def stefan_maxwell_of(window: Window) -> Found:
    """Stefan-Maxwell diffusivities of all pairs of species."""
    matrix = onsager_of(window)
    neutral = matrix.numbers * (matrix.charges == 0)
    reference = matrix.kinds[int(np.argmax(neutral if neutral.any() else matrix.numbers))]
    return {
        f"stefan_maxwell/{one}-{other}": found
        for (one, other), found in stefan_maxwell(matrix, reference).items()
    }


def onsager_of(window: Window) -> Onsager:
    """Onsager coefficients of an electrolyte.

    Raises:
        ConfigError: no ions.
    """
    charges = window.topology.kind_charges()
    if not any(charges.values()):
        raise ConfigError(f"expected ions, got {', '.join(charges)} without charge")
    runs = window.centres()
    shortest = min(map(len, runs))
    if shortest < FEWEST:
        raise ConfigError(f"expected {FEWEST} frames for collective motion, got {shortest}")
    return onsager_matrix(runs, window.temperature)
