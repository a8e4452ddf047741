"""Reference energies of elements from the residual of the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers
from torch import Tensor

from hff_ase.data.dataset import Dataset
from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.terms.short_range import ShortRange
from hff_ase.training.adapt_config import AdaptConfig


def refit_references(
    potential: HybridPotential, data: Dataset, elements: Sequence[str] | None = None
) -> Tensor:
    """Shift reference energies so that the energies of labelled frames are met best, in place.

    The least-squares solution of sum_Z n_Z shift_Z = E_label - E_model, per atom of each frame; of
    several that do equally well (elements that always come together) that with the smallest shifts.
    Isolated atoms count only where there is nothing else: what a network makes of an atom alone
    says nothing about liquids unless it was trained on that.

    Args:
        potential: what is trained; its labels have lost what other terms contribute.
        data: labelled frames; those without an energy do not count.
        elements: only those; all that the model knows where not given.

    Returns:
        The shifts [n_elements] in eV, float64; zero for elements that no frame holds.

    Raises:
        ConfigError: no short-range term, or no frame with an energy.
    """
    term = short_range_term(potential)
    order = list(elements if elements is not None else term.species.elements)
    numbers = [atomic_numbers[symbol] for symbol in order]
    counts, residual = [], []
    larger = [k for k in range(len(data)) if data.n_atoms[k] > 1]
    for k in larger or range(len(data)):
        batch, labels = data[k]
        with torch.no_grad():
            given = potential(batch, forces=False, stress=False)
        per_system = [batch.system_sum((batch.numbers == z).double()) for z in numbers]
        known = torch.isfinite(labels.energy)
        # per atom, so that a large box does not decide for many small molecules
        scale = labels.weight_of("energy").double().sqrt() / batch.counts
        counts.append((torch.stack(per_system, 1) * scale[:, None])[known])
        residual.append(((labels.energy - given.energy.detach()) * scale)[known])
    if not sum(len(rows) for rows in residual):
        raise ConfigError("expected labelled energies to fit reference energies to, got none")
    shift = torch.linalg.pinv(torch.cat(counts), rtol=1e-8) @ torch.cat(residual)
    rows = [term.species.elements.index(symbol) for symbol in order]
    with torch.no_grad():
        term.reference_energy[rows] += shift.to(term.reference_energy)
    return shift


def adapt_references(potential: HybridPotential, data: Dataset, adapt: AdaptConfig) -> None:
    """Refit the reference energies of all elements if that is asked for, else of new ones."""
    if adapt.refit_references:
        refit_references(potential, data)
    elif adapt.add_elements:
        refit_references(potential, data, list(adapt.add_elements))


def short_range_term(potential: HybridPotential) -> ShortRange:
    """The term that holds the reference energies.

    Raises:
        ConfigError: there is none.
    """
    for _, term in potential.named_terms():
        if isinstance(term, ShortRange):
            return term
    names = [name for name, _ in potential.named_terms()]
    raise ConfigError(f"expected a short_range term, which has reference energies, got {names}")
