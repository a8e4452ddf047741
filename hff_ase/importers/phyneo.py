"""PhyNEO's published parameters: an XML force field and weights of its bonded networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from hff_ase.checkpoint import ModelInfo
from hff_ase.domain import Domain
from hff_ase.errors import CheckpointError
from hff_ase.importers.molecules import known_molecules, side_by_side
from hff_ase.importers.phyneo_xml import read_xml
from hff_ase.importers.sgnn import OFFSET, SCALE, VALENCES, read_weights
from hff_ase.molecular.octahedra import opposite
from hff_ase.molecular.shapes import embedded
from hff_ase.molecular.templates import Template
from hff_ase.potential import HybridPotential
from hff_ase.terms.bond_network import BondNetwork
from hff_ase.terms.fixed_multipoles import FixedMultipoles
from hff_ase.terms.multipole_induction import MultipoleInduction
from hff_ase.terms.multipoles import Multipoles
from hff_ase.terms.slater import SlaterPairs
from hff_ase.terms.slater_dispersion import SlaterDispersion

__all__ = ["from_phyneo"]

CENTRES = (5, 15)  # of ions that the second bonded network describes: BF4, PO2F2, PF6
KCAL = 0.0433641042418  # eV
KJ = KCAL / 4.184
NM = 10.0  # Angstrom
COULOMB = 1389.35455846 * KJ  # k_e of the published code, eV Angstrom
AMPLITUDE = math.sqrt(KJ)
# Buckingham's traceless moments in e A^2 from the file's numbers in nm^2, a third of them
THETA = 3.0 * NM**2
# Name in a table of types -> ours, and its unit in ours
SITE = {
    "q": ("charge", 1.0),
    "pol": ("polarizability", NM**3),
    "B": ("exponent", 1.0 / NM),
    "Q_qqtt": ("damped_charge", 1.0),
    "C6": ("c6", KJ * NM**6),
    "C8": ("c8", KJ * NM**8),
    "C10": ("c10", KJ * NM**10),
    "A_ex": ("exchange", AMPLITUDE),
    "A_es": ("penetration", AMPLITUDE),
    "A_pol": ("induction", AMPLITUDE),
    "A_disp": ("dispersion", AMPLITUDE),
    "A_dhf": ("charge_transfer", AMPLITUDE),
}


def molecule_of(
    name: str,
    atoms: Sequence[tuple[str, str]],
    bonds: Sequence[Sequence[int]],
    types: Mapping[str, Mapping[str, Any]],
    as_published: bool = False,
) -> dict[str, Any]:
    """A molecule with all its parameters in our units.

    Args:
        atoms: (symbol, type) of each.
        bonds: pairs of atoms.
        types: by type the numbers of `SITE`, ``dip`` [3], ``quad`` [6], ``kz`` and ``kx``.
        as_published: moments in the published frames, which are not those of a molecule alone; else
            energies do not change when everything is turned or mirrored, or atoms of one type are
            exchanged.

    Raises:
        CheckpointError: axes that fit no neighbour.
    """
    entry: dict[str, Any] = {
        "name": name,
        "numbers": [atomic_numbers[symbol] for symbol, _ in atoms],
        "bonds": [[min(i, j), max(i, j)] for i, j in bonds],
    }
    of_atoms = [types[kind] for _, kind in atoms]
    for theirs, (ours, unit) in SITE.items():
        entry[ours] = [float(own[theirs]) * unit for own in of_atoms]
    entry["dipole"] = [[float(d) * NM for d in own["dip"]] for own in of_atoms]
    entry["quadrupole"] = [_quadrupole(own["quad"]) for own in of_atoms]
    entry["frames"] = frames_of(entry, [kind for _, kind in atoms], types, as_published)
    if not as_published:
        entry = symmetrised(entry)
    return entry


def _quadrupole(values: Sequence[float]) -> list[float]:
    """zz, xx - yy, xy, xz, yz in e A^2 of qXX, qYY, qZZ, qXY, qXZ, qYZ."""
    xx, yy, zz, xy, xz, yz = (float(value) * THETA for value in values)
    return [zz, xx - yy, xy, xz, yz]


def symmetrised(entry: dict[str, Any]) -> dict[str, Any]:
    """A molecule whose moments are the same for an atom and its mirror image.

    Types are shared by atoms on either side of a plane (the hydrogens of CH2), and molecules are
    matched as graphs: what is odd across the plane of z and x has no sign that is right for both.
    """
    dipoles = [[x, 0.0, z] for x, _, z in entry["dipole"]]
    quadrupoles = [[zz, difference, 0.0, xz, 0.0] for zz, difference, _, xz, _ in
                   entry["quadrupole"]]  # fmt: skip
    return {**entry, "dipole": dipoles, "quadrupole": quadrupoles}


def frames_of(
    entry: Mapping[str, Any],
    kinds: Sequence[str],
    types: Mapping[str, Mapping[str, Any]],
    as_published: bool,
) -> list[list[Any]]:
    """Rows of `hff_ase.molecular.frames` for a molecule.

    z points to a bonded atom of type kz; x to another bonded atom of type kx or, without one, to an
    atom of that type bonded to the former. As published that is the first that fits; else each that
    fits has an equal share, but for two that lie opposite each other about an octahedral centre.

    Args:
        entry: ``numbers`` and ``bonds``.
        kinds: type of each atom.

    Raises:
        CheckpointError: no atom fits.
    """
    template = Template.of(entry)
    near = [np.flatnonzero(row == 1).tolist() for row in template.apart]
    rows: list[list[Any]] = []
    for atom, kind in enumerate(kinds):
        kz, kx = (str(types[kind][name] or "") for name in ("kz", "kx"))
        if not kz:
            rows += [["lab", atom]] if as_published else []
            continue
        axis = "bisector" if "-" in (kz[0], kx[:1]) else "z_then_x"
        kz, kx = kz.lstrip("-"), kx.lstrip("-")
        found: list[list[Any]] = []
        for z in (k for k in near[atom] if kinds[k] == kz):
            if not kx:
                found.append(["axial_and_lab" if as_published else "axial", atom, z])
                continue
            others = [k for k in near[atom] if kinds[k] == kx and k != z]
            beyond = [k for k in near[z] if kinds[k] == kx and k != atom]
            for x in others or beyond:
                if not opposite(near[atom], z, x):
                    found.append([axis, atom, z, x])
        if not found:
            raise CheckpointError(
                f"expected neighbours of types {kz} and {kx or '-'} for the axes of atom {atom} "
                f"(type {kind}) of {template.name}, got types {[kinds[k] for k in near[atom]]}"
            )
        rows += found[:1] if as_published else found
    return rows


def from_phyneo(
    xml: str | Path,
    sgnn: Sequence[str | Path],
    molecules: Sequence[str] | None = None,
    *,
    as_published: bool = False,
    cutoff: float = 9.0,
    tolerance: float = 1e-6,
) -> HybridPotential:
    """The multipolar, polarisable force field of some molecules.

    Args:
        xml: the force field.
        sgnn: .npz files of bonded networks (`hff_ase.importers.sgnn`), each told by its size: for
            molecules of up to four bonds at an atom, and for ions such as PF6 and BF4.
        molecules: names of residues; None for all whose axes fit their own atoms (those of
            polymers need others) and which the networks describe.
        as_published: moments in the published frames, whose energies change when everything is
            turned, and pairs cut sharply; else neither, and atoms of one type are alike.
        cutoff: of pair terms and of the real-space part of lattice sums, Angstrom.
        tolerance: of the lattice sums.

    Raises:
        CheckpointError: a file cannot be read, or a molecule has no parameters or no network.
    """
    field = read_xml(xml)
    weights = dict(read_weights(path) for path in sgnn)
    names = list(field.residues) if molecules is None else list(molecules)
    entries = []
    for name in names:
        if name not in field.residues:
            raise CheckpointError(
                f"expected molecules among {', '.join(field.residues)}, got {name!r}"
            )
        try:
            entry = molecule_of(name, *field.residues[name], field.types, as_published)
            entries.append({**entry, "network": _network_of(entry, list(weights))})
        except CheckpointError:
            if molecules is not None:
                raise
    pairs: dict[str, Any] = {
        "factors": field.factors,
        "cutoff": cutoff,
        "switch_width": 0.0 if as_published else 1.0,
    }
    sums: dict[str, Any] = {
        "factors": field.factors,
        "cutoff": cutoff,
        "tolerance": tolerance,
        "prefactor": COULOMB,
    }
    networks = [{"reach": VALENCES[valence], "valence": valence} for valence in weights]
    bonded = BondNetwork(entries, networks, SCALE * KJ, OFFSET * KJ)
    for net, own in zip(bonded.networks, weights.values(), strict=True):
        try:
            net.load_state_dict(own)
        except RuntimeError as error:
            raise CheckpointError(f"expected weights of the published sizes, got {error}") from None
    terms = {
        "moments": FixedMultipoles(entries),
        "bonded": bonded,
        "multipoles": Multipoles(entries, **sums),
        "induction": MultipoleInduction(entries, **sums),
        "slater": SlaterPairs(entries, prefactor=COULOMB, **pairs),
        "dispersion": SlaterDispersion(entries, tolerance=tolerance, **pairs),
    }
    numbers = {z for entry in entries for z in entry["numbers"]}
    symbols = [symbol for symbol, z in atomic_numbers.items() if z in numbers]
    return HybridPotential(terms, symbols).requires_grad_(False).eval()


def _network_of(entry: Mapping[str, Any], valences: Sequence[int]) -> int | None:
    """The network that describes a molecule, by index; None for a single atom."""
    valence = _valence(entry)
    if valence and valence not in valences:
        raise CheckpointError(
            f"expected a bonded network of {valence} bonds at an atom for {entry['name']}, got "
            f"those of {', '.join(map(str, valences)) or 'none'}"
        )
    return valences.index(valence) if valence else None


def _valence(entry: Mapping[str, Any]) -> int:
    """Valence of the network that describes a molecule: 6 for boron or phosphorus with all others
    around it and wherever an atom has more than 4 bonds, 4 for others, 0 for an atom alone."""
    n = len(entry["numbers"])
    if n == 1:
        return 0
    bonds = np.bincount(np.array(entry["bonds"]).reshape(-1), minlength=n)
    centre = int(bonds.argmax())
    star = bonds[centre] == n - 1 == len(entry["bonds"])
    return 6 if bonds[centre] > 4 or (star and entry["numbers"][centre] in CENTRES) else 4


def info_of(name: str, potential: HybridPotential) -> ModelInfo:
    """What an imported force field is: source, licence, and the molecules that it is for."""
    moments = potential.terms["moments"]
    if not isinstance(moments, FixedMultipoles):
        raise CheckpointError(f"expected fixed multipoles, got {type(moments).__name__}")
    known = known_molecules(moments.templates, moments.charge())
    names = ", ".join(molecule.name for molecule in known)
    return ModelInfo(
        name=name,
        description=f"PhyNEO's forms, multipolar and polarisable, for {names}",
        licence="that of the imported files (PhyNEO-Electrolyte: GPL-3.0)",
        provenance="an XML force field and weights of its bonded network, given by the user",
        trained_with=tuple(term for term, _ in potential.named_terms()),
        domain=Domain(known),
    )


def example(potential: HybridPotential) -> Atoms:
    """The molecules beside each other, to store their results with the model."""
    moments = potential.terms["moments"]
    if not isinstance(moments, FixedMultipoles):
        raise CheckpointError(f"expected fixed multipoles, got {type(moments).__name__}")
    known = known_molecules(moments.templates, moments.charge())
    shapes = map(embedded, moments.templates.molecules)
    return side_by_side(zip(known, shapes, strict=True))
