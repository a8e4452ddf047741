"""Parameters averaged over atoms that no relabelling of their molecule tells apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hff_ase.molecular.templates import Template


def averaged(
    entry: Mapping[str, Any], of_atoms: Sequence[str], of_terms: Mapping[str, int]
) -> dict[str, Any]:
    """A molecule's configuration with equal parameters where its graph is the same.

    Published tables come from networks and files with a few digits: equivalent atoms differ in the
    last ones, and with them the energy of a molecule whose atoms are in another order.

    Args:
        entry: ``name``, ``numbers``, ``bonds`` and parameters.
        of_atoms: names of parameters of atoms.
        of_terms: names of lists of rows, and how many atoms a row begins with.
    """
    classes = Template.of(entry).classes
    out = dict(entry)
    for name in of_atoms:
        values = np.array(entry[name], dtype=np.float64)
        sums = np.bincount(classes, values) / np.bincount(classes)
        out[name] = sums[classes].tolist()
    for name, width in of_terms.items():
        rows = [list(row) for row in entry[name]]
        groups: dict[tuple[int, ...], list[list[float]]] = {}
        for row in rows:
            groups.setdefault(_kind(classes, row[:width], name), []).append(row[width:])
        means = {kind: np.mean(values, axis=0).tolist() for kind, values in groups.items()}
        out[name] = [[*row[:width], *means[_kind(classes, row[:width], name)]] for row in rows]
    return out


def _kind(classes: np.ndarray, atoms: Sequence[int], name: str) -> tuple[int, ...]:
    """What a term's atoms are: read from either end, or about a centre."""
    found = tuple(int(classes[int(k)]) for k in atoms)
    if name == "improper_terms":
        return found[0], *sorted(found[1:])
    return min(found, found[::-1])
