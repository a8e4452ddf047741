"""From a configuration's model section to a potential, and from trained terms to a saved model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from hff_ase.checkpoint import ModelInfo, load_model
from hff_ase.errors import ConfigError
from hff_ase.models import model_path
from hff_ase.potential import HybridPotential
from hff_ase.terms import TERMS, ZBL, Term
from hff_ase.training.adapt import AdaptConfig, apply
from hff_ase.training.adapt.heads import add_heads, make_term
from hff_ase.training.config import ModelSection


class Start(NamedTuple):
    """A model that is trained further, as it was."""

    potential: HybridPotential
    info: ModelInfo


def build(
    section: ModelSection, seed: int, start: Start | None = None
) -> tuple[HybridPotential, Start | None]:
    """The potential to train: terms with random weights, or a start as it is adapted.

    Args:
        section: what is trained.
        seed: of everything that starts at random.
        start: a model to start from instead of reading the section's.

    Returns:
        The potential and, for a start, what it was.

    Raises:
        ConfigError: terms, arguments or adaptations that make no sense.
        CheckpointError: the start cannot be read.
    """
    if section.start is not None:
        start = start or Start(*load_model(model_path(section.start)))
        return apply(start.potential, section.adapt, seed), start
    entries = {
        name: {"kind": name, **arguments} for name, arguments in (section.terms or {}).items()
    }
    if not entries:
        raise ConfigError("model.terms: expected at least one term, got none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # the first term is completed from a potential that knows only the elements
        known = HybridPotential({"elements": ZBL()}, section.elements)
        (first, entry), *rest = entries.items()
        potential = HybridPotential({first: make_term(first, entry, known)}, section.elements)
        return add_heads(potential, dict(rest)), None


def adaptation(section: ModelSection) -> AdaptConfig | None:
    """How a start is adapted; None for terms from random weights."""
    return None if section.start is None else section.adapt


def in_training(potential: HybridPotential, section: ModelSection) -> HybridPotential:
    """The trainable terms with the arguments of ``train_as``.

    Raises:
        ConfigError: a term that is not trained, or arguments that it refuses.
    """
    terms: dict[str, Term] = dict(potential.named_terms())
    for name, changes in section.train_as.items():
        if name not in terms:
            raise ConfigError(
                f"expected one of the trained terms {list(terms)} in model.train_as, got {name!r}"
            )
        terms[name] = changed(name, terms[name], changes)
    if not section.train_as:
        return potential
    return potential.with_terms(terms).train(potential.training)


def shipped(
    whole: HybridPotential, trained: HybridPotential, section: ModelSection
) -> HybridPotential:
    """The model that is saved: every term in its order, trained ones as they are now but with their
    own arguments, and those named in ``save_as`` with other ones.

    Raises:
        ConfigError: arguments that a term refuses.
    """
    terms: dict[str, Term] = dict(whole.named_terms())
    terms |= {name: term for name, term in trained.named_terms() if name in terms}
    for name in section.train_as:
        terms[name] = changed(name, terms[name], dict(whole.named_terms())[name].config())
    check_save_as(section, list(terms))
    for name, changes in section.save_as.items():
        if name in terms:
            terms[name] = changed(name, terms[name], changes)
    potential = whole.with_terms(terms, dtype=trained.dtype)
    new = {name: entry for name, entry in section.save_as.items() if name not in terms}
    if new:
        potential = add_heads(potential, new)
    return potential.to(trained.known.device).requires_grad_(False).eval()


def check_save_as(section: ModelSection, names: list[str]) -> None:
    """Refuse, before training, a ``save_as`` for an unknown term without a ``kind``.

    Raises:
        ConfigError: names it.
    """
    for name, entry in section.save_as.items():
        if name not in names and "kind" not in entry:
            raise ConfigError(
                f"expected one of the terms {names} in model.save_as, or a kind for a new one, got "
                f"{name!r}"
            )


def changed(name: str, term: Term, changes: Mapping[str, Any]) -> Term:
    """A term of the same parameters with some other arguments.

    Raises:
        ConfigError: the term refuses them.
    """
    arguments = {key: value for key, value in changes.items() if key != "kind"}
    try:
        new = TERMS[term.kind](**{**term.config(), **arguments})
    except TypeError as error:
        raise ConfigError(f"model: expected arguments of {name!r}, got {error}") from None
    new.set_dtype(torch.float64)  # holds parameters of either precision exactly
    new.load_state_dict(dict(term.named_parameters()), strict=False)
    return new
