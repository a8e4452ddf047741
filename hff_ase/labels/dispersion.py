"""D3 dispersion added to labels, from the simple-dftd3 library."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
from ase import Atoms

from hff_ase.errors import ConfigError
from hff_ase.units import BOHR


def d3_dispersion(atoms: Atoms, functional: str) -> tuple[float, np.ndarray, str]:
    """D3 energy with Becke-Johnson damping of a molecule, for a functional.

    Returns:
        Hartree, gradient [n_atoms, 3] in Hartree/bohr, and the library with its version.

    Raises:
        ConfigError: dftd3 is not installed, or has no parameters for the functional.
    """
    if find_spec("dftd3") is None:
        raise ConfigError("expected dftd3 for dispersion='d3bj': pip install 'hff-ase[labels]'")
    from dftd3.interface import DispersionModel, RationalDampingParam

    try:
        damping = RationalDampingParam(method=functional.lower())
    except RuntimeError:
        raise ConfigError(f"expected a functional with D3 parameters, got {functional!r}") from None
    result = DispersionModel(atoms.numbers, atoms.positions / BOHR).get_dispersion(
        damping, grad=True
    )
    return float(result["energy"]), np.asarray(result["gradient"]), f"dftd3 {version('dftd3')}"
