"""Reference energies of the elements, from a fit of total energies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from hff_ase.data.dataset import Dataset
from hff_ase.data.labels import Frame
from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.terms import ShortRange
from hff_ase.training.adapt.references import adapt_references
from hff_ase.training.config import DataSection, ModelSection
from hff_ase.training.model import adaptation


def fit_reference_energies(
    dataset: Dataset, numbers: Sequence[int], *, isolated: bool = True
) -> Tensor:
    """Energy per element [len(numbers)], eV, float64.

    Least squares of the energies per atom, weighted by the frames' weights. Where the data holds
    neutral isolated atoms, theirs is their element's (``isolated``): the model's energy is then
    zero where nothing is bound. Only the elements that lack one are fitted to the other frames;
    without ``isolated`` all are, and isolated atoms count as any other frame. Compositions can be
    collinear (a single liquid), and elements absent: the solution of minimum norm always exists.
    """
    index = {number: k for k, number in enumerate(numbers)}
    counts, energies, weights = [], [], []
    alone: dict[int, list[float]] = {}
    for k in range(len(dataset)):
        for row, energy, weight, charge in _systems(dataset[k], index):
            if row.sum() == 1 and charge == 0.0 and isolated:
                alone.setdefault(int(np.argmax(row)), []).append(energy)
            else:
                counts.append(row)
                energies.append(energy)
                weights.append(weight)
    out = np.zeros(len(numbers))
    for element, values in alone.items():
        out[element] = float(np.mean(values))
    free = [k for k in range(len(numbers)) if k not in alone]
    if free and counts:
        design = np.array(counts, dtype=np.float64)
        rest = np.array(energies) - design @ out
        # per atom, so that a large box does not decide for many small molecules
        scale = np.sqrt(np.array(weights)) / design.sum(1)
        pseudo_inverse = np.linalg.pinv(design[:, free] * scale[:, None], rcond=1e-8)
        out[free] = pseudo_inverse @ (rest * scale)
    return torch.as_tensor(out)


def set_references(
    potential: HybridPotential, train: Dataset, model: ModelSection, data: DataSection
) -> None:
    """Give the network its reference energies per element, by least squares or as given.

    Raises:
        ConfigError: energies for elements that the model does not know, or no network to have them.
    """
    wanted, adapt = data.reference_energies, adaptation(model)
    if adapt is not None:
        adapt_references(potential, train, adapt)
        return
    terms = [term for _, term in potential.named_terms() if isinstance(term, ShortRange)]
    if wanted == "keep" or not terms:
        return
    reference, elements = terms[0].reference_energy, terms[0].species.elements
    if isinstance(wanted, dict):
        unknown = sorted(set(wanted) - set(elements))
        if unknown:
            raise ConfigError(
                f"data.reference_energies: expected elements among {' '.join(elements)}, got "
                f"{unknown[0]}"
            )
        values = torch.tensor([wanted.get(symbol, 0.0) for symbol in elements])
    else:
        numbers = [atomic_numbers[symbol] for symbol in elements]
        values = fit_reference_energies(train, numbers, isolated=wanted == "isolated")
    with torch.no_grad():
        reference.copy_(values)


def _systems(frame: Frame, index: dict[int, int]) -> list[tuple[np.ndarray, float, float, float]]:
    """Element counts, energy, weight and charge of the labelled systems of a frame.

    Those with an element that is not asked for are left out.
    """
    batch, labels = frame
    system, numbers = batch.system.cpu().numpy(), batch.numbers.cpu().numpy()
    weight = labels.weight_of("energy").tolist()
    out = []
    for k, (energy, charge) in enumerate(
        zip(labels.energy.tolist(), batch.charge.tolist(), strict=True)
    ):
        mine = [index.get(int(z), -1) for z in numbers[system == k]]
        if np.isfinite(energy) and min(mine) >= 0:
            row = np.bincount(mine, minlength=len(index))
            out.append((row, energy, weight[k], charge))
    return out
