"""What to cite for each property that a page shows."""

from __future__ import annotations

from collections.abc import Iterable

ALWAYS = (
    "Error bars: A. D. Sokal, in Functional Integration: Basics and Applications (Plenum, 1997); "
    "U. Wolff, Comput. Phys. Commun. 156, 143 (2004)",
    "Start of equilibrium: J. D. Chodera, J. Chem. Theory Comput. 12, 1799 (2016)",
)
CITED: dict[str, tuple[str, ...]] = {
    "compressibility": (
        "M. P. Allen and D. J. Tildesley, Computer Simulation of Liquids, 2nd ed. (Oxford, 2017)",
    ),
    "expansion": (
        "M. P. Allen and D. J. Tildesley, Computer Simulation of Liquids, 2nd ed. (Oxford, 2017)",
    ),
    "viscosity": (
        "P. J. Daivis and D. J. Evans, J. Chem. Phys. 100, 541 (1994)",
        "Y. Zhang, A. Otani and E. J. Maginn, J. Chem. Theory Comput. 11, 3537 (2015)",
        "G. Toraman et al., J. Chem. Inf. Model. 65, 10445 (2025)",
    ),
    "diffusion": ("I.-C. Yeh and G. Hummer, J. Phys. Chem. B 108, 15873 (2004)",),
    "conductivity": ("K. D. Fong et al., AIChE J. 66, e17091 (2020)",),
    "transference": ("K. D. Fong et al., AIChE J. 66, e17091 (2020)",),
    "stefan-maxwell": (
        "J. Newman and K. E. Thomas-Alyea, Electrochemical Systems, 3rd ed. (Wiley, 2004)",
    ),
    "permittivity": ("M. Neumann, Mol. Phys. 50, 841 (1983)",),
    "solvation": (
        "S. Gong et al., Nat. Mach. Intell. (2025), BAMBOO: SSIP, CIP and AGG",
        "R. W. Impey, P. A. Madden and I. R. McDonald, J. Phys. Chem. 87, 5071 (1983)",
    ),
    "scattering": (
        "T. E. Faber and J. M. Ziman, Philos. Mag. 11, 153 (1965)",
        "E. Lorch, J. Phys. C 2, 229 (1969)",
        "D. T. Cromer and J. B. Mann, International Tables for X-ray Crystallography, vol. IV",
    ),
    "charges": ("S. Gong et al., Nat. Mach. Intell. (2025), BAMBOO",),
    "kirkwood-buff": (
        "P. Ganguly and N. F. A. van der Vegt, J. Chem. Theory Comput. 9, 1347 (2013)",
        "P. Krüger and T. J. H. Vlugt, Phys. Rev. E 97, 051301 (2018)",
        "P. G. Kusalik and G. N. Patey, J. Chem. Phys. 86, 5110 (1987)",
    ),
}


def citations(properties: Iterable[str]) -> list[str]:
    """The sources of the methods of these properties, each once."""
    own = [line for name in properties for line in CITED.get(name, ())]
    return list(dict.fromkeys([*ALWAYS, *own]))
