"""How the output of a quantum code was made: code, level of theory, charge.

ASE's readers give energies, forces and charges of many codes, but neither the method, without which
energies of two files cannot be told to have one zero, nor the total charge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]
HEAD = 2_000_000  # characters that are looked at: the input is echoed at the beginning


def _orca(text: str) -> Facts:
    words: list[str] = []
    for line in re.findall(r"^\|\s*\d+>\s*!(.*)$", text, re.MULTILINE):
        words += line.split("#")[0].split()
    charge = re.search(r"Total Charge\s+Charge\s+\.+\s+([-+]?\d+)", text)
    version = re.search(r"Program Version\s+(\S+)", text)
    # what is computed, not how
    tasks = {"engrad", "opt", "sp", "tightscf", "verytightscf", "normalprint", "miniprint"}
    kept = [w for w in words if w.lower() not in tasks and not re.fullmatch(r"(?i)pal\d+", w)]
    return _facts("ORCA", " ".join(kept), charge, version)


def _gaussian(text: str) -> Facts:
    route = re.search(r"^ -{10,}\n( #.*?)\n -{10,}$", text, re.MULTILINE | re.DOTALL)
    level = ""
    if route:
        words = "".join(line[1:] for line in route[1].split("\n")).split()
        level = next((word for word in words if "/" in word), " ".join(words[1:]))
        extra = [w for w in words if w.lower().startswith(("empiricaldispersion", "scrf"))]
        level = " ".join([level, *extra])
    charge = re.search(r"Charge =\s*([-+]?\d+)\s+Multiplicity", text)
    version = re.search(r"^ (Gaussian \d+.*?):", text, re.MULTILINE)
    return _facts("Gaussian", level, charge, version)


def _vasp(text: str) -> Facts:
    found = []
    for tag in ("GGA", "METAGGA", "ENCUT", "IVDW", "LHFCALC"):
        pattern = rf"(?:^\s*{tag}\s*=\s*|name=\"{tag}\"\s*>\s*)([^\s<;]+)"
        match = re.search(pattern, text, re.MULTILINE)
        if match and match[1] not in ("--", "-", "0", "F"):
            found.append(f"{tag}={match[1].rstrip('.')}")
    version = re.search(r"(?:vasp\.|name=\"version\"[^>]*>\s*)(\d[\d.]*)", text)
    return _facts("VASP", " ".join(found), None, version)


def _aims(text: str) -> Facts:
    xc = re.search(r"^\s*xc\s+(\S.*?)\s*$", text, re.MULTILINE)
    charge = re.search(r"^\s*charge\s+([-+]?\d+)(?:\.0*)?\s*$", text, re.MULTILINE)
    version = re.search(r"(?:FHI-aims version|Version)\s*:?\s*(\S+)", text)
    return _facts("FHI-aims", xc[1] if xc else "", charge, version)


def _espresso(text: str) -> Facts:
    xc = re.search(r"Exchange-correlation\s*=\s*(\S+)", text)
    cutoff = re.search(r"kinetic-energy cutoff\s*=\s*([\d.]+)\s*Ry", text)
    level = " ".join([xc[1] if xc else "", f"{float(cutoff[1]):g} Ry" if cutoff else ""]).strip()
    version = re.search(r"Program PWSCF v\.?(\S+)", text)
    return _facts("Quantum ESPRESSO", level, None, version)


def _cp2k(text: str) -> Facts:
    """Functional, dispersion, cutoff of the plane waves and basis sets."""
    functional = re.search(r"^ FUNCTIONAL\|\s+([\w-]+):", text, re.MULTILINE)
    dispersion = re.search(r"^ vdW POTENTIAL\|\s+(DFT-D\d)", text, re.MULTILINE)
    cutoff = re.search(r"^ QS\| Density cutoff \[a\.u\.\]:\s+([\d.]+)", text, re.MULTILINE)
    bases = re.findall(r"^\s+Orbital Basis Set\s+(\S+)", text, re.MULTILINE)
    words = [match[1] for match in (functional, dispersion) if match]
    words += [f"{2 * float(cutoff[1]):g} Ry"] if cutoff else []
    level = " ".join([*words, *sorted(set(bases))])
    charge = re.search(r"^ DFT\| Charge\s+([-+]?\d+)", text, re.MULTILINE)
    version = re.search(r"CP2K version (\S+)", text)
    return _facts("CP2K", level, charge, version)


# What a file of each code holds near its beginning, and what reads it.
CODES: tuple[tuple[str, Callable[[str], Facts]], ...] = (
    ("* O   R   C   A *", _orca),
    ("Entering Gaussian System", _gaussian),
    ("<modeling>", _vasp),
    ("vasp.", _vasp),
    ("Invoking FHI-aims", _aims),
    ("Program PWSCF", _espresso),
    (" CP2K| version string", _cp2k),
)


def level_of_theory(text: str) -> Facts:
    """Code, level of theory and charge of an output; empty for an unknown file.

    Returns:
        ``method`` (code and level of theory), ``code``, ``code_version``, and ``charge`` (e), as
        far as the file says so.
    """
    head = text[:HEAD]
    for mark, read in CODES:
        if mark in head[:20_000]:
            return read(head)
    return {}


def _facts(
    code: str, level: str, charge: re.Match[str] | None, version: re.Match[str] | None
) -> Facts:
    facts: Facts = {"code": code, "method": f"{code} {level}".strip()}
    if version:
        facts["code_version"] = version[1]
    if charge:
        facts["charge"] = int(charge[1])
    return facts
