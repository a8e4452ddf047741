"""Molecules from SMILES: geometry by RDKit, molar volume by the van der Waals volume.

Imported only where a recipe says ``smiles:...``, because RDKit is the optional extra ``smiles``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from hff_ase.errors import RecipeError

from .library import SMILES_PREFIX, Molecule, ions, solvents
from .salts import Salt, salt_of
from .volumes import estimated_volume

try:
    from rdkit import Chem
    from rdkit.Chem import AllChem, rdDistGeom, rdForceFieldHelpers
    from rdkit.rdBase import BlockLogs
except ImportError as error:
    raise RecipeError(
        f"'{SMILES_PREFIX}...' needs RDKit, which is not installed: pip install 'hff-ase[smiles]'"
    ) from error

N_CONFORMERS = 10


@cache
def solvent_from_smiles(smiles: str) -> Molecule:
    """A neutral molecule; one of the library's keeps its measured density, else it is estimated.

    The estimate, 1.71 van der Waals volumes, has a standard error of 7 %. Raises RecipeError for
    text that is not SMILES, for ions, and for several molecules in one.
    """
    mol = _read(smiles)
    if len(Chem.GetMolFrags(mol)) != 1:
        raise RecipeError(f"expected one molecule in {SMILES_PREFIX}{smiles}, got several")
    charge = Chem.GetFormalCharge(mol)
    if charge != 0:
        raise RecipeError(
            f"expected a neutral solvent, got charge {charge:+d} in {SMILES_PREFIX}{smiles}"
        )
    symbols, positions, volume = embed(mol)
    known = _library_by_smiles().get(Chem.MolToSmiles(mol))
    if known is not None:
        molar_volume, source = known.molar_volume, f"as {known.name}, {known.source}"
    else:
        molar_volume, source = estimated_volume(volume, 0)
    return Molecule(SMILES_PREFIX + smiles, symbols, positions, 0, molar_volume, source, smiles)


@cache
def salt_from_smiles(smiles: str) -> Salt:
    """A salt of one kind of cation and one kind of anion, such as "[Li+].F[P-](F)(F)(F)(F)F".

    Ions of the library keep its names and volumes. Their numbers follow from the charges, however
    often each is written. Raises RecipeError for anything else.
    """
    mol = _read(smiles)
    kinds = {
        Chem.MolToSmiles(part): part for part in Chem.GetMolFrags(mol, asMols=True)
    }  # [Mg+2].[Cl-].[Cl-] has two kinds
    parts = [_ion(text, part) for text, part in kinds.items()]
    cations = [ion for ion in parts if ion.charge > 0]
    anions = [ion for ion in parts if ion.charge < 0]
    if len(parts) != 2 or len(cations) != 1 or len(anions) != 1:
        raise RecipeError(
            "expected one kind of cation and one of anion in a salt, as in "
            f"'{SMILES_PREFIX}[Li+].F[P-](F)(F)(F)(F)F', got {SMILES_PREFIX}{smiles}"
        )
    return salt_of(cations[0], anions[0], SMILES_PREFIX + smiles)


def _ion(text: str, mol: Any) -> Molecule:
    """An ion of the library where the canonical SMILES is one's, else a new one."""
    known = _library_by_smiles().get(text)
    if known is not None:
        return known
    symbols, positions, volume = embed(mol)
    charge = Chem.GetFormalCharge(mol)
    molar_volume, source = estimated_volume(volume, charge)
    return Molecule(SMILES_PREFIX + text, symbols, positions, charge, molar_volume, source, text)


def embed(mol: Any) -> tuple[tuple[str, ...], np.ndarray, float]:
    """Symbols, positions [n_atoms, 3] in Angstrom and van der Waals volume in A^3.

    Lowest of ten ETKDG conformers after relaxation with MMFF94 (UFF for atoms it lacks).
    """
    mol = Chem.AddHs(mol)
    settings: Any = rdDistGeom.ETKDGv3()
    settings.randomSeed = 1
    conformers = list(rdDistGeom.EmbedMultipleConfs(mol, N_CONFORMERS, settings))
    if not conformers:
        raise RecipeError(f"RDKit finds no geometry for {SMILES_PREFIX}{Chem.MolToSmiles(mol)}")
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        relax: Any = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs
    else:
        relax = rdForceFieldHelpers.UFFOptimizeMoleculeConfs
    energies = [energy for _, energy in relax(mol, maxIters=5000)]
    best = conformers[int(np.argmin(energies))]
    positions = np.array(mol.GetConformer(best).GetPositions())
    volume = float(AllChem.ComputeMolVolume(mol, confId=best, gridSpacing=0.1))
    symbols = tuple(atom.GetSymbol() for atom in mol.GetAtoms())
    return symbols, positions - positions.mean(axis=0), volume


def _read(smiles: str) -> Any:
    if "\\" in smiles:  # ASE's extxyz reader cannot take back a name that holds one
        raise RecipeError(
            f"expected SMILES without backslash (cis F/C=C\\F can be C(/F)=C/F), got {smiles}"
        )
    with BlockLogs():  # RDKit would print its own lines next to the error
        mol = Chem.MolFromSmiles(smiles) if smiles else None
    if mol is None:
        raise RecipeError(f"expected valid SMILES after '{SMILES_PREFIX}', got {smiles!r}")
    return mol


@cache
def _library_by_smiles() -> dict[str, Molecule]:
    """Canonical SMILES -> solvent or ion of the library."""
    known = (*solvents().values(), *ions().values())
    return {Chem.CanonSmiles(molecule.smiles): molecule for molecule in known}
