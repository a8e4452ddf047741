"""Chosen parameters of a potential as one vector theta, in transformed coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hff_ase import parameters as named
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential

__all__ = ["ParameterVector"]

Array = NDArray[np.float64]
WEIGHT_WIDTH = 0.1  # prior width of a network's weights, in root mean squares of their tensor


@dataclass(frozen=True)
class Entry:
    """The part of theta that one parameter has.

    Attributes:
        name: of the parameter.
        what: declared of it, or made up for a weight.
        used: int64 [n], which of its numbers are in theta: all but those that are 0 where the
            logarithm is calibrated, which stay 0.
        shape: of the parameter.
        rows: what its rows stand for (elements), where that is known.
    """

    name: str
    what: Declared
    used: NDArray[np.int64]
    shape: tuple[int, ...]
    rows: tuple[str, ...] = ()

    def labels(self) -> list[str]:
        """A name for each number."""
        if not self.shape:
            return [self.name]
        places = [np.unravel_index(k, self.shape) for k in self.used]
        return [
            f"{self.name}[{', '.join(self._row(int(p)) if k == 0 else str(p) for k, p in at)}]"
            for at in (list(enumerate(place)) for place in places)
        ]

    def _row(self, row: int) -> str:
        return self.rows[row] if self.rows else str(row)

    def widths(self) -> Array:
        """Prior width of each number."""
        given = np.asarray(self.what.prior_width, dtype=float)
        full = np.broadcast_to(given, self.shape or (1,)).reshape(-1)
        return np.asarray(full[self.used])


class ParameterVector:
    """Parameters of a potential as theta, float64 [n]: values, or their logarithms.

    Args:
        potential: whose parameters are read and written in place.
        patterns: names, patterns and groups (`hff_ase.parameters.matching`).

    Raises:
        ConfigError: a pattern that names no parameter, or a negative value under a logarithm.
    """

    def __init__(self, potential: HybridPotential, patterns: Sequence[str]) -> None:
        self.potential = potential
        self.names = named.matching(potential, patterns)
        declared, found = named.declared(potential), named.values(potential, self.names)
        self.entries = [
            _entry(name, value, declared.get(name), _rows(potential, name, value))
            for name, value in found.items()
        ]

    def __len__(self) -> int:
        return sum(len(entry.used) for entry in self.entries)

    @property
    def labels(self) -> list[str]:
        """A name for each number of theta."""
        return [label for entry in self.entries for label in entry.labels()]

    @property
    def logarithmic(self) -> list[bool]:
        """[n], whether theta is the logarithm of the parameter."""
        return [entry.what.transform == "log" for entry in self.entries for _ in entry.used]

    @property
    def prior_width(self) -> Array:
        """[n], in theta's coordinates."""
        return np.concatenate([entry.widths() for entry in self.entries])

    def get(self) -> Array:
        """theta [n] as the parameters are now."""
        values = named.values(self.potential, self.names)
        parts = []
        for entry in self.entries:
            flat = values[entry.name].reshape(-1).cpu().numpy()[entry.used]
            parts.append(np.log(flat) if entry.what.transform == "log" else flat)
        return np.concatenate(parts)

    def set(self, theta: Array) -> None:
        """Set the parameters.

        Raises:
            ConfigError: not [n], not finite, or values that a term refuses.
        """
        theta = np.asarray(theta, dtype=float)
        if theta.shape != (len(self),) or not np.isfinite(theta).all():
            raise ConfigError(f"expected {len(self)} finite parameters, got {theta.shape}")
        new, first = named.values(self.potential, self.names), 0
        for entry in self.entries:
            part = theta[first : first + len(entry.used)]
            first += len(entry.used)
            flat = new[entry.name].reshape(-1)
            flat[entry.used] = torch.as_tensor(
                np.exp(part) if entry.what.transform == "log" else part, device=flat.device
            )
        named.set_values(self.potential, new)

    def values(self) -> list[float]:
        """[n], the parameters themselves."""
        pairs = zip(self.get(), self.logarithmic, strict=True)
        return [float(np.exp(x)) if log else float(x) for x, log in pairs]

    def scale(self, factors: Sequence[float]) -> None:
        """Multiply every parameter [n] by a factor.

        Raises:
            ConfigError: as `set`.
        """
        pairs = zip(self.get(), factors, self.logarithmic, strict=True)
        self.set(np.array([x + np.log(f) if log else x * f for x, f, log in pairs]))

    def gradients(self, found: Mapping[str, Tensor]) -> Array:
        """dE/dtheta [n_systems, n] from `Evaluation.parameter_gradients`."""
        values = named.values(self.potential, self.names)
        parts = []
        for entry in self.entries:
            rows = found[entry.name].flatten(1) if entry.shape else found[entry.name][:, None]
            part = rows.double().cpu().numpy()[:, entry.used]
            if entry.what.transform == "log":
                part = part * values[entry.name].reshape(-1).cpu().numpy()[entry.used]
            parts.append(part)
        return np.concatenate(parts, axis=1)


def _entry(name: str, value: Tensor, what: Declared | None, rows: tuple[str, ...]) -> Entry:
    flat = value.reshape(-1).cpu().numpy()
    if what is None:
        size = float(np.sqrt(np.mean(flat**2))) if flat.size else 0.0
        what = Declared("1", "none", WEIGHT_WIDTH * (size or 1.0), "weights")
    used = np.arange(flat.size)
    if what.transform == "log":
        if (flat < 0).any():
            raise ConfigError(f"expected {name} of at least 0 to calibrate its logarithm, got less")
        used = np.flatnonzero(flat)
    return Entry(name, what, used, tuple(value.shape), rows)


def _rows(potential: HybridPotential, name: str, value: Tensor) -> tuple[str, ...]:
    """Elements, where a term has a row for each."""
    species = getattr(dict(potential.named_terms())[name.partition(".")[0]], "species", None)
    elements = tuple(getattr(species, "elements", ()))
    return elements if value.dim() and len(elements) == value.shape[0] else ()
