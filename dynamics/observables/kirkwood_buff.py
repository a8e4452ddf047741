r"""Thermodynamic factors from Kirkwood-Buff integrals, corrected for the finite box.

.. math:: G_{ab} = 4\pi \int_0^\infty (g_{ab} - 1) r^2 \, dr

of an open system. In a closed box g does not go to one: it is scaled by what the sphere around a
molecule has taken from the rest (Ganguly and van der Vegt, J. Chem. Theory Comput. 9, 1347 (2013),
eq. 17), and the sphere's surface is extrapolated away by the weight 1 - 23 x^3/8 + 3 x^4/4 +
9 x^5/8, x = r/R (Krueger and Vlugt, Phys. Rev. E 97, 051301 (2018)). Ions: cations and anions
cannot be told apart by an open system, electroneutrality ties their integrals (Kusalik and Patey,
J. Chem. Phys. 86, 5110 (1987)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.observable import Observable, combine, one_sigma, refuse
from hff_ase.dynamics.observables.rdf import PairDistributions
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]


def closed_box_factor(found: PairDistributions, pair: str) -> Array:
    """What g of a pair [n_shells] is multiplied by to be that of an open system.

    Args:
        found: of centres of molecules.
        pair: such as ``EC-DMC``.
    """
    second = found.counts[pair][1]
    kinds = pair.split("-", 1)
    same = float(kinds[0] == kinds[1])
    volumes = 4 / 3 * np.pi * found.edges[1:] ** 3
    left = second * (1.0 - volumes / found.volume)
    # what is missing outside is what is in excess inside, and the molecule itself
    excess = found.coordination[pair] - found.density[pair] * volumes
    # g counts N - 1 others of the same kind, the formula N
    return np.asarray((second - same) / second * left / (left - excess - same))


def kirkwood_buff(found: PairDistributions, pair: str, reach: float | None = None) -> Observable:
    """Kirkwood-Buff integral, Angstrom^3, its error from that of g in blocks.

    Args:
        found: of centres of molecules, up to half the box.
        pair: such as ``EC-DMC``.
        reach: radius of the sphere, Angstrom; None: the last edge.

    Raises:
        ConfigError: no such pair, or a sphere larger than half a cubic box.
    """
    if pair not in found.g:
        raise ConfigError(f"expected one of {', '.join(found.g)}, got {pair!r}")
    limit = 0.5 * found.volume ** (1 / 3)
    radius = float(found.edges[-1]) if reach is None else reach
    if radius > limit * (1 + 1e-6):
        raise ConfigError(f"expected a sphere within half the box, {limit:.2f} A, got {radius:g} A")
    inside = found.edges[1:] <= radius * (1 + 1e-9)
    width = found.edges[1] - found.edges[0]
    weight = _weights(found.distance[inside], radius) * width
    factor = closed_box_factor(found, pair)[inside]
    value = float(weight @ (factor * found.g[pair][inside] - 1.0))
    method = f"Kirkwood-Buff integral to {radius:.3g} A"
    # shells of one frame are correlated: the integral is taken in each block of frames
    blocks = np.array([weight @ (factor * one[inside] - 1.0) for one in found.blocks[pair]])
    dof = float(len(blocks) - 1)
    if dof < 2:
        return refuse("A^3", method, "fewer than three frames", value=value, needs=10.0)
    error = float(blocks.std(ddof=1)) / len(blocks) ** 0.5 * one_sigma(dof)
    return Observable(value, error, "A^3", method, float(len(blocks)), dof)


def running_integral(found: PairDistributions, pair: str) -> tuple[Array, Array]:
    """Radii up to half the box, Angstrom, and the integral of `kirkwood_buff` for each, A^3."""
    limit = 0.5 * found.volume ** (1 / 3)
    radii = found.edges[1:][found.edges[1:] <= limit * (1 + 1e-9)]
    excess = (closed_box_factor(found, pair) * found.g[pair] - 1.0)[: len(radii)]
    width = found.edges[1] - found.edges[0]
    weights = _weights(found.distance[: len(radii)], radii[:, None]) * width
    return radii, weights @ excess


def _weights(r: Array, radius: Array | float) -> Array:
    """4 pi r^2 times the weight of a sphere's inside; zero beyond its radius."""
    x = r / radius
    inside = 1 - 23 / 8 * x**3 + 3 / 4 * x**4 + 9 / 8 * x**5
    return np.where(x <= 1, 4 * np.pi * r**2 * inside, 0.0)


def factor_of_mixture(
    g11: Observable, g22: Observable, g12: Observable, density1: float, density2: float
) -> Observable:
    """Thermodynamic factor d ln a/d ln x of a binary mixture of neutral liquids.

    1/(1 + rho x1 x2 (G11 + G22 - 2 G12)); Ben-Naim, Molecular Theory of Solutions, eq. 4.69.

    Args:
        g11, g22, g12: Kirkwood-Buff integrals, Angstrom^3.
        density1, density2: number densities, 1/Angstrom^3.
    """
    total = density1 + density2
    weight = density1 * density2 / total
    return combine(
        lambda g11, g22, g12: 1.0 / (1.0 + weight * (g11 + g22 - 2.0 * g12)),
        {"g11": g11, "g22": g22, "g12": g12},
        "",
        "Kirkwood-Buff",
    )


def factor_of_salt(cation_anion: Observable, ion_solvent: Observable, density: float) -> Observable:
    """d ln a/d ln c of a 1:1 salt in one solvent at constant temperature and pressure.

    1/(rho_ions (G_+- - G_ion,solvent)) with rho_ions = 2 rho_salt: what electroneutrality, G_++ +
    1/rho_+ = G_+- = G_-- + 1/rho_-, makes of the formula for a mixture of solvent and
    indistinguishable ions, 1/(1 + rho_ions (G_cc - G_cs)).

    Args:
        cation_anion, ion_solvent: Kirkwood-Buff integrals, Angstrom^3; of ions and solvent either
            that of the cation or of the anion, or their mean: electroneutrality makes them equal.
        density: number density of the salt, 1/Angstrom^3.
    """
    return combine(
        lambda pair, solvent: 1.0 / (2.0 * density * (pair - solvent)),
        {"pair": cation_anion, "solvent": ion_solvent},
        "",
        "Kirkwood-Buff, ions after Kusalik and Patey",
    )
