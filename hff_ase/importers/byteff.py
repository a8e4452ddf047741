"""ByteFF-Pol's published parameters: a folder per molecule with NAME.json and NAME.itp.

The form is that of the published code (byteff2, Apache-2.0; arXiv 2508.08575, Nat. Commun. 2026).
Lengths there are in nm and energies in kJ/mol.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from hff_ase.checkpoint import ModelInfo
from hff_ase.domain import Domain
from hff_ase.errors import CheckpointError
from hff_ase.importers.molecules import known_molecules, side_by_side
from hff_ase.molecular.symmetry import averaged
from hff_ase.potential import HybridPotential
from hff_ase.terms.bonded import Bonded
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.excluded_coulomb import ExcludedCoulomb
from hff_ase.terms.exp6 import ChargeTransfer, Exp6
from hff_ase.terms.fixed_charges import FixedCharges
from hff_ase.terms.induced_dipoles import InducedDipoles

__all__ = ["from_byteff"]

KCAL = 0.0433641042418  # eV
KJ = KCAL / 4.184
NM = 10.0  # Angstrom
COULOMB = 332.0637141491396 * KCAL  # k_e of the published code, eV Angstrom
ROWS = {"bond_terms": 2, "angle_terms": 3, "proper_terms": 4, "improper_terms": 4}  # atoms in them
# Published name -> ours, and its unit in ours
SITE = {
    "charge": ("charge", 1.0),
    "alpha": ("polarizability", NM**3),
    "pol_damping": ("damping", NM**3),
    "lamb": ("steepness", 1.0),
    "eps": ("epsilon", KJ),
    "Rvdw": ("radius", NM),
    "C6": ("c6", KJ * NM**6),
    "ct_eps": ("strength", KJ * NM**4),
    "ct_lamb": ("decay", 1.0),
}


def read_molecule(folder: str | Path) -> dict[str, Any]:
    """A molecule with all its parameters in our units.

    Args:
        folder: with NAME.json (parameters of atoms) and NAME.itp (bonds, angles, dihedrals).

    Raises:
        CheckpointError: files or entries are missing.
    """
    folder = Path(folder)
    name = folder.name
    paths = {ending: folder / f"{name}.{ending}" for ending in ("json", "itp")}
    for path in paths.values():
        if not path.is_file():
            raise CheckpointError(f"expected {path.name} in the folder {folder}, got no such file")
    try:
        atoms = json.loads(paths["json"].read_text())
        sections = read_itp(paths["itp"].read_text())
        entry: dict[str, Any] = {"name": name, "numbers": _numbers(sections["atoms"])}
        for published, (ours, unit) in SITE.items():
            entry[ours] = [float(value) * unit for value in atoms[published]]
        entry |= _bonded(sections)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"expected parameters of {name} as byteff2 publishes them, got {error!r} in {folder}"
        ) from None
    return entry


def read_itp(text: str) -> dict[str, list[list[str]]]:
    """Rows of a GROMACS topology by section; dihedrals of function 4 are ``impropers``."""
    sections: dict[str, list[list[str]]] = {}
    name = ""
    for line in text.splitlines():
        content = line.split(";")[0].strip()
        if content.startswith("["):
            name = content.strip("[] ")
        elif content and not content.startswith("#"):
            row = content.split()
            improper = name == "dihedrals" and row[4] in ("2", "4")
            sections.setdefault("impropers" if improper else name, []).append(row)
    return sections


def from_byteff(
    folders: Sequence[str | Path],
    *,
    as_published: bool = False,
    cutoff: float = 10.0,
    tolerance: float = 1e-6,
) -> HybridPotential:
    """The polarisable force field of some molecules.

    Args:
        folders: one per molecule.
        as_published: cut pair terms sharply at the cutoff, and keep the parameters of equivalent
            atoms apart by their last digits; else pair terms go to zero smoothly and equivalent
            atoms are equal. Tails are added in both.
        cutoff: of pair terms, Angstrom.
        tolerance: of the lattice sums.

    Raises:
        CheckpointError: a folder cannot be read.
    """
    molecules = [read_molecule(folder) for folder in folders]
    if not as_published:
        names = [ours for ours, _ in SITE.values()]
        molecules = [whole_charge(averaged(entry, names, ROWS)) for entry in molecules]
    pairs: dict[str, Any] = {
        "cutoff": cutoff,
        "switch_width": 0.0 if as_published else 1.0,
        "tail": True,
    }
    electric: dict[str, Any] = {"prefactor": COULOMB}
    terms = {
        "charges": FixedCharges(molecules),
        "bonded": Bonded(molecules),
        "coulomb": Coulomb("pme", 9.0, tolerance, None, COULOMB),
        "excluded": ExcludedCoulomb(molecules, **electric),
        "exp6": Exp6(molecules, **pairs),
        "charge_transfer": ChargeTransfer(molecules, **pairs),
        "induction": InducedDipoles(molecules, tolerance=tolerance, **electric),
    }
    numbers = sorted({z for entry in molecules for z in entry["numbers"]})
    symbols = [symbol for symbol, z in atomic_numbers.items() if z in numbers]
    return HybridPotential(terms, symbols).requires_grad_(False).eval()


def whole_charge(entry: dict[str, Any]) -> dict[str, Any]:
    """A molecule whose charges sum to a whole number: published ones are off by up to 1e-7 e."""
    charges = entry["charge"]
    excess = (sum(charges) - round(sum(charges))) / len(charges)
    return {**entry, "charge": [charge - excess for charge in charges]}


def info_of(name: str, potential: HybridPotential) -> ModelInfo:
    """What an imported force field is: source, licence, and the molecules that it is for."""
    charges = potential.terms["charges"]
    if not isinstance(charges, FixedCharges):
        raise CheckpointError(f"expected fixed charges, got {type(charges).__name__}")
    known = known_molecules(charges.templates, charges.charge())
    names = ", ".join(molecule.name for molecule in known)
    return ModelInfo(
        name=name,
        description=f"ByteFF-Pol, polarisable, for {names}",
        licence="Apache-2.0",
        provenance="parameters published with byteff2 (ByteDance, Apache-2.0): arXiv 2508.08575, "
        "Nat. Commun. 2026",
        trained_with=tuple(term for term, _ in potential.named_terms()),
        domain=Domain(known),
    )


def example(folders: Sequence[str | Path], potential: HybridPotential) -> Atoms:
    """The molecules beside each other as NAME.gro has them, to store their results with the model.

    Raises:
        CheckpointError: a file is missing or holds another number of atoms.
    """
    domain = info_of("", potential).domain
    molecules = domain.molecules if domain else ()
    places = [
        _positions(Path(folder), len(known.graph.numbers))
        for folder, known in zip(folders, molecules, strict=True)
    ]
    return side_by_side(zip(molecules, places, strict=True))


def _positions(folder: Path, n_atoms: int) -> NDArray[np.float64]:
    """Positions in NAME.gro in a folder NAME, Angstrom."""
    path = folder / f"{folder.name}.gro"
    if not path.is_file():
        raise CheckpointError(f"expected {path.name} in the folder {folder}, got no such file")
    lines = path.read_text().splitlines()[2:-1]
    # the last columns are coordinates and, in some files, velocities
    numbers = [[float(x) for x in re.findall(r"-?\d+\.\d+", line)[:3]] for line in lines]
    if len(numbers) != n_atoms:
        raise CheckpointError(f"expected {n_atoms} atoms in {path}, got {len(numbers)}")
    return np.array(numbers) * NM


def _numbers(rows: Sequence[Sequence[str]]) -> list[int]:
    """Atomic numbers from masses, which identify the element."""
    found = []
    for row in rows:
        mass = float(row[7])
        z = int(abs(atomic_masses - mass).argmin())
        if abs(atomic_masses[z] - mass) > 0.1:
            raise ValueError(f"no element has the mass {mass}")
        found.append(z)
    return found


def _bonded(sections: dict[str, list[list[str]]]) -> dict[str, Any]:
    def atoms(row: Sequence[str], n: int) -> list[int]:
        return [int(index) - 1 for index in row[:n]]

    bonds = [
        [*atoms(row, 2), float(row[4]) * KJ / NM**2, float(row[3]) * NM]
        for row in sections.get("bonds", [])
    ]
    angles = [
        [*atoms(row, 3), float(row[5]) * KJ, math.radians(float(row[4]))]
        for row in sections.get("angles", [])
    ]
    propers: dict[tuple[int, ...], list[float]] = {}
    for row in sections.get("dihedrals", []):
        order = int(row[7])
        values = propers.setdefault(tuple(atoms(row, 4)), [0.0] * 4)
        values[order - 1] += float(row[6]) * KJ
    impropers: dict[tuple[int, ...], float] = {}
    for row in sections.get("impropers", []):
        centre, *others = atoms(row, 4)
        key = (centre, *sorted(others))
        impropers[key] = impropers.get(key, 0.0) + float(row[6]) * KJ  # three turns with a third
    return {
        "bonds": [row[:2] for row in bonds],
        "bond_terms": bonds,
        "angle_terms": angles,
        "proper_terms": [[*key, *values] for key, values in propers.items()],
        "improper_terms": [[*key, value] for key, value in impropers.items()],
    }
