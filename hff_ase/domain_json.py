"""Domains as JSON, for model files: written plainly, and checked when they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ase.data import atomic_numbers, chemical_symbols

from hff_ase.domain import Companion, Domain, KnownMolecule, Range
from hff_ase.errors import ConfigError
from hff_ase.molecule_graph import MoleculeGraph


def domain_to_dict(domain: Domain) -> dict[str, Any]:
    """For JSON; `domain_from_dict` takes it back."""
    return {
        "molecules": [_molecule_to_dict(molecule) for molecule in domain.molecules],
        "temperature_K": None if domain.temperature is None else list(domain.temperature),
        "density_g_per_cm3": None if domain.density is None else list(domain.density),
        "pressure_bar": None if domain.pressure is None else list(domain.pressure),
        "compositions": list(domain.compositions),
        "companion": None if domain.companion is None else asdict(domain.companion),
    }


def domain_from_dict(content: object) -> Domain:
    """The inverse of `domain_to_dict`.

    Raises:
        ConfigError: it is something else; names the entry.
    """
    entries = _mapping(content, "a domain")
    molecules = entries.get("molecules")
    if not isinstance(molecules, list) or not molecules:
        raise ConfigError(f"expected a list of molecules in a domain, got {molecules!r:.60}")
    compositions = entries.get("compositions", [])
    if not (isinstance(compositions, list) and all(isinstance(c, str) for c in compositions)):
        raise ConfigError(f"expected recipes as compositions, got {compositions!r:.60}")
    return Domain(
        tuple(_molecule_from_dict(entry) for entry in molecules),
        _range(entries, "temperature_K"),
        _range(entries, "density_g_per_cm3"),
        _range(entries, "pressure_bar"),
        tuple(compositions),
        _companion_from_dict(entries.get("companion")),
    )


def _molecule_to_dict(molecule: KnownMolecule) -> dict[str, Any]:
    return {
        "name": molecule.name,
        "atoms": " ".join(chemical_symbols[z] for z in molecule.graph.numbers),
        "bonds": " ".join(f"{i}-{j}" for i, j in molecule.graph.bonds),
        "charge": molecule.charge,
        "share": molecule.share,
        "errors": dict(molecule.errors),
    }


def _molecule_from_dict(content: object) -> KnownMolecule:
    entry = _mapping(content, "a molecule of a domain")
    name, symbols, bonds = (entry.get(key) for key in ("name", "atoms", "bonds"))
    if not (isinstance(name, str) and isinstance(symbols, str) and isinstance(bonds, str)):
        raise ConfigError(f"expected name, atoms and bonds of a molecule, got {entry!r:.80}")
    elements = symbols.split()
    strange = [symbol for symbol in elements if symbol not in atomic_numbers]
    if strange or not elements:
        raise ConfigError(f"expected elements as atoms of {name}, got {symbols!r:.60}")
    pairs = []
    for bond in bonds.split():
        first, _, second = bond.partition("-")
        valid = first.isdecimal() and second.isdecimal()
        if not valid or not int(first) < int(second) < len(elements):
            raise ConfigError(
                f"expected bonds i-j with i < j < {len(elements)} in {name}, got {bond}"
            )
        pairs.append((int(first), int(second)))
    charge, share, errors = entry.get("charge", 0), entry.get("share"), entry.get("errors", {})
    if not isinstance(charge, int) or not (share is None or _is_number(share)):
        raise ConfigError(f"expected numbers as charge and share of {name}, got {charge}, {share}")
    if not isinstance(errors, dict) or not all(_is_number(value) for value in errors.values()):
        raise ConfigError(f"expected numbers as errors of {name}, got {errors!r:.60}")
    graph = MoleculeGraph(tuple(atomic_numbers[s] for s in elements), tuple(pairs))
    return KnownMolecule(name, graph, charge, share, {str(k): float(v) for k, v in errors.items()})


def _companion_from_dict(content: object) -> Companion | None:
    if content is None:
        return None
    entry = _mapping(content, "the companion in a domain")
    model, values = entry.get("model"), [entry.get(key) for key in ("factor", "threshold")]
    factor, threshold = (float(v) if _is_number(v) else 0.0 for v in values)  # type: ignore[arg-type]
    if not isinstance(model, str) or not (factor > 0 and threshold > 0):
        raise ConfigError(
            f"expected model, factor and threshold of a companion in a domain, got {entry!r:.80}"
        )
    return Companion(model, factor, threshold)


def _mapping(content: object, what: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ConfigError(f"expected {what} with named entries, got {json.dumps(content)[:60]}")
    return content


def _range(entries: Mapping[str, Any], name: str) -> Range | None:
    value = entries.get(name)
    if value is None:
        return None
    valid = isinstance(value, list) and len(value) == 2 and all(_is_number(x) for x in value)
    if not valid or not value[0] <= value[1]:
        raise ConfigError(f"expected two numbers, the lower first, as {name}, got {value!r:.60}")
    return float(value[0]), float(value[1])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
