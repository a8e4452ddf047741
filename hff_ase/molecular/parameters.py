"""Parameters of sites as the trainable numbers that they are: one for all atoms of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hff_ase.errors import ConfigError
from hff_ase.molecular.templates import Templates


class SiteValues(nn.Module):
    """A number per site, of which those of one class with one value are one parameter.

    Args:
        templates: the molecules.
        values: [n_sites].
    """

    row: Tensor

    def __init__(self, templates: Templates, values: Sequence[float]) -> None:
        super().__init__()
        array = np.asarray(values, dtype=np.float64)
        keys = np.column_stack([templates.site_classes.astype(np.float64), array])
        unique, row = np.unique(keys, axis=0, return_inverse=True)
        self.value = nn.Parameter(torch.as_tensor(unique[:, 1].copy()))
        self.register_buffer("row", torch.as_tensor(row.reshape(-1)), persistent=False)

    def forward(self) -> Tensor:
        """[n_sites], float64."""
        return self.value.double()[self.row]

    def listed(self) -> list[float]:
        """[n_sites], for a configuration."""
        return [float(x) for x in self.forward().detach().cpu()]


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


def with_values(templates: Templates, **values: SiteValues) -> list[dict[str, Any]]:
    """Configurations of molecules with the parameters of their atoms."""
    entries = templates.config()
    for name, of_sites in values.items():
        flat = of_sites.listed()
        for entry, first in zip(entries, templates.first, strict=True):
            entry[name] = flat[first : first + len(entry["numbers"])]
    return entries
