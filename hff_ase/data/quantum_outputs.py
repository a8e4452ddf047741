"""Outputs of quantum codes that ASE does not read: Q-Chem, Psi4, NWChem (cclib), CP2K (dpdata).

Both are optional (the extra ``dft``). cclib gives what a file calls its gradient, which is one for
these three codes and a force for others: no other code is read by it here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, Hartree

from hff_ase.errors import ConfigError, StructureError

Reader = Callable[[Path], list[Atoms]]
HEAD = 200_000  # characters among which a code names itself


def reader_of(text: str) -> Reader | None:
    """The reader of an output of one of these codes; None for other files."""
    head = text[:HEAD]
    marks: tuple[tuple[str, Reader], ...] = (
        ("Welcome to Q-Chem", read_cclib),
        ("Psi4: An Open-Source", read_cclib),
        ("Northwest Computational Chemistry Package", read_cclib),
        (" CP2K| version string", read_cp2k),
    )
    return next((reader for mark, reader in marks if mark in head), None)


def read_cclib(path: Path) -> list[Atoms]:
    """Frames of a Q-Chem, Psi4 or NWChem output, with energies and, if present, forces.

    ``info`` has method, code, code_version and charge.

    Raises:
        ConfigError: cclib is not installed.
        StructureError: no energy, or fewer gradients than energies.
    """
    try:
        from cclib.io import ccread
    except ImportError as error:
        raise _missing("cclib", path) from error
    data = ccread(str(path), loglevel=logging.CRITICAL)
    energies = [] if data is None else list(getattr(data, "scfenergies", []))
    if data is None or not energies or len(data.atomcoords) < len(energies):
        raise StructureError(f"expected energies with their structures in {path}, got none")
    gradients = getattr(data, "grads", None)
    if gradients is not None and len(gradients) != len(energies):
        raise StructureError(
            f"expected a gradient for each of {len(energies)} energies in {path}, got "
            f"{len(gradients)}"
        )
    facts = _facts_of(data)
    frames = []
    for k, energy in enumerate(energies):
        atoms = Atoms(data.atomnos, data.atomcoords[k])
        atoms.info = dict(facts)
        results: dict[str, Any] = {"energy": float(energy)}
        if gradients is not None:
            results["forces"] = -np.asarray(gradients[k]) * Hartree / Bohr
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def _facts_of(data: Any) -> dict[str, Any]:
    about = getattr(data, "metadata", {})
    code = str(about.get("package", ""))
    code = {"QChem": "Q-Chem"}.get(code, code)
    method = about.get("functional") or next(iter(about.get("methods", [])[-1:]), "")
    facts = {
        "code": code,
        "method": " ".join(str(x) for x in (code, method, about.get("basis_set", "")) if x),
        "charge": int(getattr(data, "charge", 0)),
    }
    if about.get("package_version"):
        facts["code_version"] = str(about["package_version"])
    return facts


def read_cp2k(path: Path) -> list[Atoms]:
    """The frame of a CP2K output (run type ENERGY_FORCE): energy, forces and, if present, stress.

    Raises:
        ConfigError: dpdata is not installed.
        StructureError: the calculation did not converge or has no forces.
    """
    try:
        from dpdata import LabeledSystem
    except ImportError as error:
        raise _missing("dpdata", path) from error
    system = LabeledSystem(str(path), fmt="cp2k/output")
    if len(system) == 0:
        raise StructureError(f"expected a converged energy with forces in {path}, got none")
    data = system.data
    symbols = [data["atom_names"][kind] for kind in data["atom_types"]]
    frames = []
    for k in range(len(system)):
        atoms = Atoms(symbols, data["coords"][k], cell=data["cells"][k], pbc=True)
        results = {"energy": float(data["energies"][k]), "forces": data["forces"][k]}
        if "virials" in data:
            stress = -data["virials"][k] / atoms.get_volume()
            results["stress"] = full_3x3_to_voigt_6_stress(stress)
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def _missing(library: str, path: Path) -> ConfigError:
    return ConfigError(f"expected {library} to read {path}: pip install 'hff-ase[dft]'")
