"""Settings of labels from wave functions and density functionals."""

from __future__ import annotations

from typing import Literal

from hff_ase.settings import Settings, setting

__all__ = ["EDASettings", "PySCFSettings"]

METHOD, ENGINE = "Method", "Where it runs"


class MeanFieldSettings(Settings):
    """A mean field of PySCF."""

    functional: str = setting(
        "b3lyp", "As PySCF names it, without dispersion, or hf.", panel=METHOD
    )
    basis: str = setting("def2-svpd", "Basis set as named in PySCF.", panel=METHOD)
    density_fitting: bool = setting(
        True,
        "Fit the density (about 4e-5 Ha off); without it Coulomb and exchange are exact.",
        panel=METHOD,
    )
    grid: int = setting(3, "PySCF's level of the integration grid.", panel=METHOD, ge=0, le=9)
    tolerance: float = setting(1e-9, "Of the SCF energy.", unit="Hartree", panel=METHOD, gt=0)
    max_cycles: int = setting(100, "SCF cycles per strategy.", panel=METHOD, ge=1)
    memory: int = setting(
        4000,
        "Per worker; integrals that need more go to disk.",
        unit="MB",
        panel=ENGINE,
        ge=1,
    )


class PySCFSettings(MeanFieldSettings):
    """A method, and where it runs."""

    dispersion: Literal["none", "d3bj"] = setting(
        "none", "What is added: D3 with Becke-Johnson damping needs dftd3.", panel=METHOD
    )
    charges: Literal["chelpg", "mulliken", "iao"] = setting(
        "chelpg",
        "Which charges are the label: fitted to the potential, Mulliken's, or of intrinsic atomic "
        "orbitals. The others are kept beside it; without chelpg no potential is computed.",
        panel=METHOD,
    )
    esp_spacing: float = setting(0.3, "Of the CHELPG grid.", unit="Angstrom", panel=METHOD, gt=0)
    constrain_dipole: bool = setting(
        False, "CHELPG charges that reproduce the dipole of the density exactly.", panel=METHOD
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "auto uses GPU4PySCF where it is installed.", panel=ENGINE
    )


class EDASettings(MeanFieldSettings):
    """A functional whose interaction energies are decomposed, and how molecules are charged."""

    functional: str = setting(
        "wb97m-v", "As PySCF names it, with its dispersion, or hf.", panel=METHOD
    )
    basis: str = setting("def2-tzvpd", "Basis set as named in PySCF.", panel=METHOD)
    nonlocal_grid: int = setting(
        1, "PySCF's level of the grid of nonlocal correlation (VV10).", panel=METHOD, ge=0, le=9
    )
    nonlocal_correlation: Literal["self-consistent", "afterwards"] = setting(
        "self-consistent",
        "Whether orbitals feel nonlocal correlation, or only energies have it, which saves half "
        "the time.",
        panel=METHOD,
    )
    orbital_grid: int = setting(
        1,
        "PySCF's level of the grid on which orbitals are found, where --grid is finer; energies "
        "are of --grid.",
        panel=METHOD,
        ge=0,
        le=9,
    )
    formal_charges: dict[str, int] = setting(
        {}, "Formal charge of a molecule, e.g. BF4=-1.", panel=METHOD, metavar="FORMULA=CHARGE"
    )
