"""Molecules from SMILES: geometry by RDKit, molar volume by the van der Waals volume.

Imported only where a recipe says ``smiles:...``, because RDKit is the optional extra ``smiles``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from hff_ase.errors import RecipeError

from .library import SMILES_PREFIX, Molecule, solvents

try:
    from rdkit import Chem
    from rdkit.Chem import AllChem, rdDistGeom, rdForceFieldHelpers
    from rdkit.rdBase import BlockLogs
except ImportError as error:
    raise RecipeError(
        f"'{SMILES_PREFIX}...' needs RDKit, which is not installed: pip install 'hff-ase[smiles]'"
    ) from error

# Volume of the liquid over the van der Waals volume: mean of the library's solvents at 298 K,
# which scatter by 0.12 (1.53 EC, 1.70 DMC, 1.89 acetone, 1.91 Novec7000).
LIQUID_TO_VDW = 1.71
CM3_PER_MOL_PER_A3 = 0.602214076  # Avogadro's number x 1e-24 cm3
N_CONFORMERS = 10


@cache
def solvent_from_smiles(smiles: str) -> Molecule:
    """A neutral molecule; one of the library's keeps its measured density, else it is estimated.

    The estimate, 1.71 van der Waals volumes, has a standard error of 7 %. Raises RecipeError for
    text that is not SMILES, for ions, and for several molecules in one.
    """
    mol = _read(smiles)
    symbols, positions, volume = embed(mol)
    known = _library_by_smiles().get(Chem.MolToSmiles(mol))
    if known is not None:
        molar_volume, source = known.molar_volume, f"as {known.name}, {known.source}"
    else:
        molar_volume = LIQUID_TO_VDW * volume * CM3_PER_MOL_PER_A3
        source = f"estimate from the van der Waals volume ({volume:.0f} A^3), good to about 7 %"
    return Molecule(SMILES_PREFIX + smiles, symbols, positions, 0, molar_volume, source, smiles)


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
    if len(Chem.GetMolFrags(mol)) != 1:
        raise RecipeError(f"expected one molecule in {SMILES_PREFIX}{smiles}, got several")
    charge = Chem.GetFormalCharge(mol)
    if charge != 0:
        raise RecipeError(
            f"expected a neutral solvent, got charge {charge:+d} in {SMILES_PREFIX}{smiles}"
        )
    return mol


@cache
def _library_by_smiles() -> dict[str, Molecule]:
    """Canonical SMILES -> solvent of the library."""
    return {Chem.CanonSmiles(solvent.smiles): solvent for solvent in solvents().values()}
