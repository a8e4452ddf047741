"""One entry per property: what it needs, the function that computes it, the measured quantity.

An entry of `PLANS` is everything that an observable of your own takes to be computed by ``hff
analyse``, shown by ``hff report`` and compared with experiment by ``hff compare``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.properties import (
    bulk,
    curves,
    gas,
    shells,
    structure,
    structure_curves,
    transport,
)
from hff_ase.dynamics.properties.curves import Curve
from hff_ase.dynamics.properties.state import PRESSURE, VOLUME
from hff_ase.dynamics.properties.window import Window
from hff_ase.errors import ConfigError

__all__ = ["Plan"]

Found = Mapping[str, Observable]


@dataclass(frozen=True)
class Plan:
    """How a property is computed.

    Attributes:
        title: for people.
        held: what the run holds constant: ``pressure``, ``volume``, or empty for either.
        stored: what a run has to store: ``rows``, ``frames``, ``tensor``, ``charges``.
        unit: of its quantities, for what is refused as a whole.
        compute: quantities by name from a window; names are paths such as ``self_diffusion/Li``.
        curves: what to draw; None for nothing beside convergence.
        measured: reference quantity by the first part of a name; see
            `hff_ase.dynamics.reference.lookup`. Where the same part is longer, as in
            ``transference_number/Li/solvent``, only names that end as given count.
        target: relative error that a verdict asks for.
        least: length of each replica, ps, below which no error is honest, whatever estimators say:
            motion that has not been seen yet is not in its error.
        before: properties whose quantities it uses where they are asked for, too.
        ions: whether only electrolytes have it (True), only liquids without ions (False), or all.
        replays: whether its convergence is computed: the same again over shorter windows.
    """

    title: str
    held: str
    stored: tuple[str, ...]
    unit: str
    compute: Callable[[Window], Found]
    curves: Callable[[Window], Sequence[Curve]] | None = None
    measured: Mapping[str, str] | None = None
    target: float = 0.05
    least: float = 0.0
    before: tuple[str, ...] = ()
    ions: bool | None = None
    replays: bool = True


PLANS: dict[str, Plan] = {
    "density": Plan(
        "Density",
        PRESSURE,
        ("rows",),
        "g/cm^3",
        bulk.density_of,
        measured={"density": "density"},
        target=0.005,
    ),
    "compressibility": Plan(
        "Isothermal compressibility", PRESSURE, ("rows",), "1/GPa", bulk.compressibility_of
    ),
    "expansion": Plan("Thermal expansion", PRESSURE, ("rows",), "1e-3/K", bulk.expansion_of),
    "viscosity": Plan(
        "Shear viscosity",
        VOLUME,
        ("rows", "tensor"),
        "mPa s",
        transport.viscosity_of,
        curves.spectrum_of,
        {"viscosity": "viscosity"},
        target=0.1,
        least=50.0,
    ),
    "driven-viscosity": Plan(
        "Shear viscosity from the flow under a cosine acceleration",
        VOLUME,
        ("rows", "frames"),
        "mPa s",
        transport.driven_viscosity_of,
        measured={"driven_viscosity": "viscosity"},
        target=0.1,
    ),
    "diffusion": Plan(
        "Self-diffusion",
        VOLUME,
        ("frames",),
        "1e-9 m^2/s",
        transport.diffusion_of,
        curves.displacements_of,
        least=50.0,
        before=("viscosity",),
    ),
    "conductivity": Plan(
        "Ionic conductivity",
        VOLUME,
        ("frames",),
        "mS/cm",
        transport.conductivity_of,
        curves.collective_of,
        {"conductivity": "conductivity"},
        target=0.1,
        least=100.0,
        before=("diffusion",),
        ions=True,
    ),
    "driven-conductivity": Plan(
        "Ionic conductivity from the current in a field",
        VOLUME,
        ("frames",),
        "mS/cm",
        transport.driven_of,
        measured={"driven_conductivity": "conductivity"},
        target=0.1,
        ions=True,
    ),
    "transference": Plan(
        "Transference number",
        VOLUME,
        ("frames",),
        "",
        transport.transference_of,
        measured={"transference_number/Li/solvent": "transference_number"},
        target=0.1,
        least=100.0,
        ions=True,
    ),
    "stefan-maxwell": Plan(
        "Stefan-Maxwell diffusivities",
        VOLUME,
        ("frames",),
        "1e-9 m^2/s",
        transport.stefan_maxwell_of,
        target=0.2,
        least=100.0,
        ions=True,
        replays=False,
    ),
    "permittivity": Plan(
        "Relative permittivity",
        VOLUME,
        ("frames", "charges"),
        "",
        bulk.permittivity_of,
        measured={"permittivity": "permittivity"},
        target=0.1,
        least=100.0,
        ions=False,
    ),
    "heat_of_vaporisation": Plan(
        "Heat of vaporisation",
        PRESSURE,
        ("rows", "gas"),
        "kJ/mol",
        gas.heat_of_vaporisation_of,
        measured={"heat_of_vaporisation": "heat_of_vaporisation"},
        target=0.02,
        ions=False,
        replays=False,
    ),
    "solvation": Plan(
        "Solvation of the cations",
        "",
        ("frames",),
        "",
        shells.solvation_of,
        curves.solvation_of,
        ions=True,
        replays=False,
    ),
    "structure": Plan(
        "Radial distribution functions",
        "",
        ("frames",),
        "",
        lambda window: {},
        curves.structure_of,
        replays=False,
    ),
    "scattering": Plan(
        "X-ray and neutron structure factors",
        "",
        ("frames",),
        "",
        structure.scattering_of,
        structure_curves.scattering_curves,
        replays=False,
    ),
    "angles": Plan(
        "Angles in the first shells of the cations",
        "",
        ("frames",),
        "deg",
        structure.angles_of,
        structure_curves.angle_curves,
        ions=True,
        replays=False,
    ),
    "clusters": Plan(
        "Clusters of ions",
        "",
        ("frames",),
        "",
        shells.clusters_of_window,
        structure_curves.cluster_curves,
        ions=True,
        replays=False,
    ),
    "charges": Plan(
        "Atomic charges by element and solvation state",
        "",
        ("frames", "charges"),
        "e",
        structure.charges_of,
        structure_curves.charge_curves,
        replays=False,
    ),
    "kirkwood-buff": Plan(
        "Kirkwood-Buff integrals and the thermodynamic factor",
        "",
        ("frames",),
        "A^3",
        structure.kirkwood_buff_of,
        structure_curves.kirkwood_buff_curves,
        {"thermodynamic_factor": "thermodynamic_factor"},
        target=0.1,
        replays=False,
    ),
}
DEFAULT = ("density", "viscosity", "diffusion", "conductivity", "transference", "solvation")


def plans_of(names: Sequence[str], ions: bool | None = None) -> dict[str, Plan]:
    """The plans of these properties, in an order in which each comes after those it depends on.

    Args:
        names: of properties; empty for the usual ones.
        ions: whether the liquid has ions; what such a liquid has not is then left out where
            nobody asked for it by name.

    Raises:
        ConfigError: another name.
    """
    for name in names:
        if name not in PLANS:
            raise ConfigError(f"expected properties among {', '.join(PLANS)}, got {name!r}")
    chosen = list(names) or [
        name
        for name in (*DEFAULT, *(() if ions else ("structure",)))
        if ions is None or PLANS[name].ions in (None, ions)
    ]
    return {name: PLANS[name] for name in PLANS if name in chosen}
