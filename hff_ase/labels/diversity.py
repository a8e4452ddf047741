"""Choosing diverse structures: farthest-point sampling on a network's features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential

__all__ = ["choose_diverse", "cluster_features"]


def cluster_features(
    potential: HybridPotential, structures: Sequence[Atoms], *, batch_size: int = 32
) -> np.ndarray:
    """One vector per structure: the network's node features, averaged element by element.

    Args:
        potential: with a network.
        structures: any number; their elements are known to the network.
        batch_size: structures that are evaluated together.

    Returns:
        float64 [n_structures, n_elements * channels + n_elements]: for each element that occurs
        anywhere the mean of its atoms' features, times the square root of its share of the
        atoms (0 where it is absent), and the share itself, which is what tells structures apart
        of which one is a multiple of the other.

    Raises:
        ConfigError: no term of the potential gives ``node_features``.
        StructureError: an element that the model does not know.
    """
    if not any("node_features" in term.gives for _, term in potential.named_terms()):
        raise ConfigError(
            "expected a model with a network that gives node_features, got terms "
            f"{[name for name, _ in potential.named_terms()]}"
        )
    elements = sorted({int(z) for atoms in structures for z in set(atoms.numbers)})
    rows = []
    for start in range(0, len(structures), batch_size):
        part = list(structures[start : start + batch_size])
        batch = AtomsBatch.from_atoms(part, _device(potential))
        potential.check_elements(batch)
        with torch.no_grad():
            result = potential(batch, forces=False, stress=False)
        features = result.fields["node_features"].double().cpu().numpy()
        sizes = np.cumsum([len(atoms) for atoms in part])[:-1]
        for atoms, own in zip(part, np.split(features, sizes), strict=True):
            rows.append(_per_element(atoms.numbers, own, elements))
    return np.array(rows)


def _device(potential: HybridPotential) -> torch.device:
    return next((p.device for p in potential.parameters()), torch.device("cpu"))


def _per_element(numbers: np.ndarray, features: np.ndarray, elements: list[int]) -> np.ndarray:
    parts, shares = [], []
    for element in elements:
        mask = numbers == element
        share = mask.mean()
        mean = features[mask].mean(0) if mask.any() else np.zeros(features.shape[1])
        parts.append(np.sqrt(share) * mean)
        shares.append(share)
    return np.concatenate([*parts, shares])


def choose_diverse(
    features: np.ndarray,
    n: int | None = None,
    *,
    known: np.ndarray | None = None,
    eps: float = 1e-3,
) -> list[int]:
    """Farthest-point sampling: each next structure is the farthest from all chosen ones.

    Distances are Euclidean, in units of the spread of the features (root mean square distance
    from their mean). Whatever is nearer than ``eps`` to a chosen or known one is a duplicate and
    never chosen. The first is the one nearest to the mean, so the choice has no randomness.

    Args:
        features: [n_structures, d].
        n: how many; None for all but duplicates.
        known: [m, d], features of structures that are labelled already.
        eps: the distance, relative to the spread, below which two structures are the same.

    Returns:
        Indices in order of choice, at most ``n``.

    Raises:
        ConfigError: features that are no finite table, or another number of columns in ``known``.
    """
    features = np.asarray(features, dtype=float)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ConfigError(f"expected finite features [n, d], got shape {features.shape}")
    if n is not None and n < 1:
        raise ConfigError(f"expected to choose at least 1 structure, got {n}")
    if len(features) == 0:
        return []
    centred = features - features.mean(0)
    spread = float(np.sqrt((centred**2).sum(1).mean()))
    limit = eps * spread
    nearest = np.full(len(features), np.inf)
    if known is not None and len(known):
        known = np.asarray(known, dtype=float)
        if known.ndim != 2 or known.shape[1] != features.shape[1]:
            raise ConfigError(
                f"expected known features [m, {features.shape[1]}], got {known.shape}"
            )
        for row in known:
            nearest = np.minimum(nearest, np.linalg.norm(features - row, axis=1))
        following = int(nearest.argmax())
    else:
        following = int((centred**2).sum(1).argmin())
    chosen: list[int] = []
    while (n is None or len(chosen) < n) and nearest[following] > limit:
        chosen.append(following)
        distance = np.linalg.norm(features - features[following], axis=1)
        nearest = np.minimum(nearest, distance)
        following = int(nearest.argmax())
    return chosen
