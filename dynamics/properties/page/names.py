"""Names of quantities and units as people write them."""

from __future__ import annotations

import re

EN_DASH, MINUS = "\u2013", "\u2212"
TITLES = {
    "density": "Density",
    "compressibility": "Isothermal compressibility",
    "expansion": "Thermal expansion",
    "viscosity": "Shear viscosity",
    "viscosity/green_kubo": "Shear viscosity, Green-Kubo",
    "conductivity": "Ionic conductivity",
    "conductivity/nernst_einstein": "Ionic conductivity, Nernst-Einstein",
    "driven_viscosity": "Shear viscosity, flow under a cosine acceleration",
    "driven_conductivity": "Ionic conductivity, current in a field",
    "ionicity": "Ionicity",
    "permittivity": "Relative permittivity",
    "heat_of_vaporisation": "Heat of vaporisation",
    "thermodynamic_factor": "Thermodynamic factor",
    "structure_factor_peak/xray/place": "Main peak of the x-ray S(q), place",
    "structure_factor_peak/xray/height": "Main peak of the x-ray S(q), height",
    "structure_factor_peak/neutron/place": "Main peak of the neutron S(q), place",
    "structure_factor_peak/neutron/height": "Main peak of the neutron S(q), height",
}
PATTERNS = {
    "self_diffusion": "Self-diffusion of {}",
    "self_diffusion_infinite": "Self-diffusion of {}, infinite system",
    "transference_number": "Transference number of {}, {} frame",
    "stefan_maxwell": "Stefan-Maxwell diffusivity of {}",
    "coordination_number": "Coordination number {}",
    "ion_pairing": "{} as {}",
    "residence_time": "Residence time {}",
    "shell_preference": "Share in the shell over share in the bulk, {}",
    "angle": "Angle {}",
    "kirkwood_buff": "Kirkwood-Buff integral {}",
}
CLUSTERS = {
    "mean": "Ions in a cluster of {}, mean",
    "of_an_ion": "Ions in the cluster of an ion, {}, mean",
    "largest": "Share of ions in the largest cluster of {}",
}
UNITS = {"g/cm^3": "g cm⁻³", "1e-9 m^2/s": "10⁻⁹ m² s⁻¹", "mS/cm": "mS cm⁻¹", "mPa s": "mPa s"}
UNITS |= {"1/GPa": "GPa⁻¹", "1e-3/K": "10⁻³ K⁻¹", "1/A": "Å⁻¹", "A^3": "Å³", "deg": "°"}
UNITS |= {"kJ/mol": "kJ mol⁻¹"}


def title(name: str) -> str:
    """A readable name, such as ``Self-diffusion of Li`` for ``self_diffusion/Li``."""
    if name in TITLES:
        return TITLES[name]
    first, *rest = name.split("/")
    if first == "charge":
        return f"Charge of {', '.join(rest)}"
    if first == "cluster_size" and len(rest) == 2:
        return CLUSTERS[rest[1]].format(rest[0])
    pattern = PATTERNS.get(first)
    if pattern is None or pattern.count("{}") != len(rest):
        return re.sub("[_/]", " ", name).capitalize()
    return pattern.format(*(part.replace("-", EN_DASH) for part in rest))


def unit(text: str) -> str:
    """A unit with its exponents raised."""
    return UNITS.get(text, text)


def number(value: float | None, error: float | None) -> str:
    """A value with its error, two digits of it, such as ``1.284 ± 0.003``."""
    from hff_ase.dynamics.observables.observable import Observable

    if value is None or error is None:
        return EN_DASH
    return str(Observable(value, error, "", "", 0.0)).replace("+-", "±").replace("-", MINUS)


def percent(share: float) -> str:
    """A deviation such as +1.4 %."""
    return f"{100 * share:+.1f} %".replace("-", MINUS)
