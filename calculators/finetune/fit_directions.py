"""Directions in which the parameters of some molecules may go."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hff_ase.errors import ConfigError
from hff_ase.molecular.parameters import SiteValues
from hff_ase.molecular.templates import Templates
from hff_ase.parameter_vector import ParameterVector

Array = NDArray[np.float64]
CHARGE = "charge"
# what is one quantity of an atom in several places, as far as the values are equal
SAME = {"damping": "polarizability"}


@dataclass(frozen=True, eq=False)
class Directions:
    """What is fitted.

    Attributes:
        basis: [p, d], of steps in theta: molecules keep their whole charges, and what is one
            quantity of an atom stays one.
        width: of the prior, [p]; larger for numbers that go together, so that they count once.
        chosen: int64 [n], the numbers of theta that move.
        labels: of these, such as "EMC charge O4".
    """

    basis: Array
    width: Array
    chosen: NDArray[np.int64]
    labels: list[str]


def directions(theta: ParameterVector, molecules: Collection[str], factor: float) -> Directions:
    """For the parameters of atoms of the named molecules.

    Args:
        theta: of parameters that are `SiteValues`.
        molecules: names of templates.
        factor: of the declared prior widths.

    Raises:
        ConfigError: nothing that could move.
    """
    width = factor * theta.prior_width
    start, terms = theta.get(), dict(theta.potential.named_terms())
    charges: dict[str, list[tuple[int, int]]] = {}  # molecule -> number, atoms that have it
    groups: dict[tuple[str, tuple[int, ...], float], list[int]] = {}
    label_of: dict[int, str] = {}
    place = 0
    for entry in theta.entries:
        term, _, path = entry.name.partition(".")
        values = terms[term].get_submodule(path.removesuffix(".value"))
        templates = getattr(terms[term], "templates", None)
        assert isinstance(values, SiteValues)
        assert isinstance(templates, Templates)
        rows, kind = values.row.cpu().numpy(), path.split(".")[-2]
        for number, row in enumerate(entry.used, start=place):
            sites = tuple(np.flatnonzero(rows == row).tolist())
            molecule, atom = _site(templates, sites[0])
            if molecule not in molecules:
                continue
            label_of[number] = f"{molecule} {kind} {atom}"
            if kind == CHARGE:
                charges.setdefault(molecule, []).append((number, len(sites)))
            else:
                key = SAME.get(kind, kind), sites, round(float(start[number]), 9)
                groups.setdefault(key, []).append(number)
        place += len(entry.used)
    columns = []
    for numbers in groups.values():
        width[numbers] *= np.sqrt(len(numbers))
        columns.append(_column(len(theta), numbers, width[numbers]))
    for pairs in charges.values():
        numbers, counts = (list(x) for x in zip(*pairs, strict=True))
        weights = np.array(counts) * width[numbers]
        # steps of unit prior length that leave the sum of charges as it is
        _, _, rotation = np.linalg.svd(weights[None])
        columns += [_column(len(theta), numbers, width[numbers] * row) for row in rotation[1:]]
    if not columns:
        raise ConfigError(f"expected molecules with parameters to fit, got {', '.join(molecules)}")
    chosen = np.array(sorted(label_of), dtype=np.int64)
    return Directions(np.stack(columns, axis=1), width, chosen, [label_of[k] for k in chosen])


def _column(p: int, numbers: list[int], values: Array) -> Array:
    column = np.zeros(p)
    column[numbers] = values
    return column


def _site(templates: Templates, site: int) -> tuple[str, str]:
    """Molecule and atom of a site, such as ("EMC", "O4")."""
    from ase.data import chemical_symbols

    index = int(np.searchsorted(templates.first, site, side="right")) - 1
    template = templates.molecules[index]
    atom = site - templates.first[index]
    return template.name, f"{chemical_symbols[template.numbers[atom]]}{atom}"
