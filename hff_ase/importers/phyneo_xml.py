"""PhyNEO's XML force field, in the form that DMFF reads.

Elements of the file (lengths in nm, energies in kJ/mol): ``AtomTypes``, ``Residues``,
``ADMPPmeForce`` (charges, moments and their axes, ``Polarize``), ``ADMPDispPmeForce`` (C6, C8,
C10), ``SlaterExForce``, ``SlaterSrEsForce``, ``SlaterSrPolForce``, ``SlaterSrDispForce``,
``SlaterDhfForce`` (A, B), ``QqTtDampingForce`` (Q, B) and ``SlaterDampingForce`` (B, C6, C8, C10).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from hff_ase.errors import CheckpointError

SECTIONS = {  # of the XML -> its numbers in a table of types
    "ADMPPmeForce": {"c0": "q"},
    "ADMPDispPmeForce": {"C6": "C6", "C8": "C8", "C10": "C10"},
    "SlaterExForce": {"A": "A_ex", "B": "B"},
    "SlaterSrEsForce": {"A": "A_es"},
    "SlaterSrPolForce": {"A": "A_pol"},
    "SlaterSrDispForce": {"A": "A_disp"},
    "SlaterDhfForce": {"A": "A_dhf"},
    "QqTtDampingForce": {"Q": "Q_qqtt"},
}
SAME = {"SlaterDampingForce": ("B", "C6", "C8", "C10")}  # numbers that stand there once more
DIPOLE = ("dX", "dY", "dZ")
QUADRUPOLE = ("qXX", "qYY", "qZZ", "qXY", "qXZ", "qYZ")


class ForceField(NamedTuple):
    """Contents of a file: ``residues`` by name, (atoms as (symbol, type), bonds); ``types`` (see
    `hff_ase.importers.phyneo.molecule_of`); ``factors`` for atoms 1, 2, 3 ... bonds apart."""

    residues: dict[str, tuple[list[tuple[str, str]], list[list[int]]]]
    types: dict[str, dict[str, Any]]
    factors: tuple[float, ...]


def read_xml(path: str | Path) -> ForceField:
    """Read a force field; residues that others are bonded to (of polymers) are left out.

    Raises:
        CheckpointError: not such a file, or one that needs what is not done here.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"expected an XML force field, got {error}") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # what makes a parser read or grow without end
        raise CheckpointError(f"expected an XML force field without declarations, got {path}")
    try:
        root = ElementTree.fromstring(text)
        types: dict[str, dict[str, Any]] = {}
        for section, names in SECTIONS.items():
            for atom in _section(root, section).findall("Atom"):
                own = types.setdefault(atom.attrib["type"], {"kz": "", "kx": ""})
                own |= {ours: float(atom.attrib[theirs]) for theirs, ours in names.items()}
                if section == "ADMPPmeForce":
                    own |= {axis: atom.attrib.get(axis, "") for axis in ("kz", "kx")}
                    own["dip"] = [float(atom.attrib[name]) for name in DIPOLE]
                    own["quad"] = [float(atom.attrib[name]) for name in QUADRUPOLE]
        for atom in _section(root, "ADMPPmeForce").findall("Polarize"):
            parts = [float(atom.attrib[f"polarizability{axis}"]) for axis in ("XX", "YY", "ZZ")]
            types[atom.attrib["type"]]["pol"] = sum(parts) / 3.0
        for section, repeated in SAME.items():
            for atom in _section(root, section).findall("Atom"):
                _check_same(types[atom.attrib["type"]], atom.attrib, repeated, section)
        symbols = {kind.attrib["name"]: kind.attrib["element"] for kind in root.iter("Type")}
        residues = {
            residue.attrib["name"]: _residue(residue, symbols)
            for residue in root.iter("Residue")
            if residue.find("ExternalBond") is None
        }
        return ForceField(residues, types, _factors(root))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"expected an XML force field as DMFF reads PhyNEO's, got {error!r} in {path}"
        ) from None


def _section(root: ElementTree.Element, name: str) -> ElementTree.Element:
    found = root.find(name)
    if found is None:
        raise ValueError(f"no element <{name}>")
    return found


def _check_same(
    known: Mapping[str, Any], found: Mapping[str, str], names: Sequence[str], section: str
) -> None:
    for name in names:
        if not math.isclose(float(found[name]), known[name], rel_tol=1e-6):
            raise ValueError(f"another {name} of type {found['type']} in <{section}>")


def _residue(
    residue: ElementTree.Element, symbols: Mapping[str, str]
) -> tuple[list[tuple[str, str]], list[list[int]]]:
    """Atoms as (symbol, type) and bonds, by numbers or by names."""
    atoms = residue.findall("Atom")
    place = {atom.attrib["name"]: k for k, atom in enumerate(atoms)}
    bonds = []
    for bond in residue.findall("Bond"):
        ends = bond.attrib
        if "from" in ends:
            bonds.append([int(ends["from"]), int(ends["to"])])
        else:
            bonds.append([place[ends["atomName1"]], place[ends["atomName2"]]])
    kinds = [atom.attrib["type"] for atom in atoms]
    return [(symbols[kind], kind) for kind in kinds], bonds


def _factors(root: ElementTree.Element) -> tuple[float, ...]:
    """The factors by bonds apart, which must be the same for everything."""
    found = set()
    for name in (*SECTIONS, *SAME):
        attributes = _section(root, name).attrib
        for kind in ("m", "p", "d"):
            row = tuple(
                float(attributes[key]) for k in range(2, 7)
                if (key := f"{kind}Scale1{k}") in attributes
            )  # fmt: skip
            found |= {row} if row else set()
    if len(found) != 1:
        raise ValueError(f"factors that are not the same everywhere: {sorted(found)}")
    return found.pop()
