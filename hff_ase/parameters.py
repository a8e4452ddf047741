"""Parameters by name: what a term declares of its own, and gradients of energies in any of them.

A potential's parameters are ``<term>.scale``, a factor of the term's energy, and ``<term>.<name>``
for each parameter of the term, physical ones and the weights of networks alike. Names are picked by
patterns with ``*`` and ``?``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from hff_ase.declared import Declared
from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential

SCALE = "scale"
SCALE_DECLARED = Declared("1", "log", 0.1, "a factor of the term's energy")


def parameter_names(potential: HybridPotential) -> list[str]:
    """Every parameter of a potential, in the order of its terms."""
    names = []
    for name, term in potential.named_terms():
        names.append(f"{name}.{SCALE}")
        names += [f"{name}.{own}" for own, _ in term.named_parameters()]
    return names


def declared(potential: HybridPotential) -> dict[str, Declared]:
    """What is declared of a potential's physical parameters, by name."""
    found = {}
    for name, term in potential.named_terms():
        found[f"{name}.{SCALE}"] = SCALE_DECLARED
        found |= {f"{name}.{own}": what for own, what in term.declared().items()}
    return found


def matching(potential: HybridPotential, patterns: Sequence[str]) -> list[str]:
    """The parameters that patterns name, each once, in the order of the potential.

    Raises:
        ConfigError: a pattern that names none.
    """
    names = parameter_names(potential)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            tops = sorted({name.split(".", 1)[0] for name in names})
            raise ConfigError(
                f"expected names of parameters of the terms {tops}, such as '{tops[0]}.scale' or "
                f"'{tops[0]}.*', got {pattern!r}"
            )
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def tensors(potential: HybridPotential, names: Sequence[str]) -> dict[str, Tensor]:
    """The parameters of some names that are tensors (all but the scales)."""
    known = {
        f"{name}.{own}": value
        for name, term in potential.named_terms()
        for own, value in term.named_parameters()
    }
    return {name: known[name] for name in names if name in known}


@contextmanager
def requiring_gradients(parameters: Sequence[Tensor], others: Sequence[Tensor]) -> Iterator[None]:
    """Let some parameters require gradients, and no others, for a while."""
    before = [(p, p.requires_grad) for p in (*others, *parameters)]
    for parameter in others:
        parameter.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, flag in before:
            parameter.requires_grad_(flag)


def gradients(energy: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """dE/dtheta of one system's energy, by name, in float64; zero where it does not depend."""
    if not parameters or not energy.requires_grad:
        return {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    found = torch.autograd.grad([energy.sum()], list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p, dtype=torch.float64) if g is None else g.double()
        for (name, p), g in zip(parameters.items(), found, strict=True)
    }
