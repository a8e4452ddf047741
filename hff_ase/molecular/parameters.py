"""Parameters of sites as the trainable numbers that they are: one for all atoms of a class."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hff_ase.errors import ConfigError
from hff_ase.molecular.templates import Templates


class SiteValues(nn.Module):
    """A number per site, or a row of them, of which those of one class with one value are one
    parameter.

    Args:
        templates: the molecules.
        values: [n_sites] or [n_sites, width].
    """

    row: Tensor

    def __init__(
        self, templates: Templates, values: Sequence[float] | Sequence[tuple[float, ...]]
    ) -> None:
        super().__init__()
        keys = list(zip(templates.site_classes.tolist(), values, strict=True))
        unique, row = numbered(keys)
        numbers = torch.tensor([value for _, value in unique], dtype=torch.float64)
        self.value = nn.Parameter(numbers)
        self.register_buffer("row", torch.tensor(row, dtype=torch.int64), persistent=False)

    def forward(self) -> Tensor:
        """[n_sites] or [n_sites, width], float64."""
        return self.value.double()[self.row]

    def listed(self) -> list[Any]:
        """The same, for a configuration."""
        found: list[Any] = self.forward().detach().cpu().tolist()
        return found


def numbered(keys: Sequence[Hashable]) -> tuple[list[Any], list[int]]:
    """Different keys in the order in which they first occur, and which of them each one is.

    That order does not change where values are trained: a file's rows stay those of its terms.
    """
    known: dict[Hashable, int] = {}
    row = [known.setdefault(key, len(known)) for key in keys]
    return list(known), row


def site_values(entries: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """A parameter of all molecules' atoms, one molecule after the other.

    Args:
        entries: of a configuration, each with ``name``, ``numbers`` and the parameter [n].

    Raises:
        ConfigError: a molecule without it, or with another number of values than atoms.
    """
    values: list[float] = []
    for entry in entries:
        own = entry.get(name)
        n = len(entry.get("numbers", ()))
        if own is None or len(own) != n:
            raise ConfigError(
                f"expected {name} for the {n} atoms of {entry.get('name')!r}, got "
                f"{None if own is None else len(own)}"
            )
        values += [float(x) for x in own]
    return values


def site_rows(
    entries: Sequence[Mapping[str, Any]], name: str, width: int
) -> list[tuple[float, ...]]:
    """`site_values` of a parameter with several numbers for each atom, [n, width].

    Raises:
        ConfigError: as there, or a row of another width.
    """
    rows: list[tuple[float, ...]] = []
    for entry in entries:
        own = entry.get(name)
        n = len(entry.get("numbers", ()))
        if own is None or len(own) != n or any(len(row) != width for row in own):
            raise ConfigError(
                f"expected {name} for the {n} atoms of {entry.get('name')!r} as rows of {width} "
                f"numbers, got {None if own is None else [len(row) for row in own]}"
            )
        rows += [tuple(float(x) for x in row) for row in own]
    return rows


def with_values(templates: Templates, **values: SiteValues) -> list[dict[str, Any]]:
    """Configurations of molecules with the parameters of their atoms."""
    entries = templates.config()
    for name, of_sites in values.items():
        flat = of_sites.listed()
        for entry, first in zip(entries, templates.first, strict=True):
            entry[name] = flat[first : first + len(entry["numbers"])]
    return entries
