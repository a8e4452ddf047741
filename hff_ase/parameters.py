"""Parameters by name: what a term declares of its own, and gradients of energies in any of them.

A potential's parameters are ``<term>.scale``, a factor of the term's energy, and ``<term>.<name>``
for each parameter of the term: physical ones, whether torch knows them or they are constants
(`hff_ase.constants`), and the weights of networks alike. Names are picked by patterns with ``*``
and ``?`` or by the names of groups (`GROUPS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from hff_ase.constants import Place, read, write
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.terms.short_range import ShortRange

__all__ = ["declared", "matching", "parameter_names"]

SCALE = "scale"
SCALE_DECLARED = Declared("1", "log", 0.1, "a factor of the term's energy")


def parameter_names(potential: HybridPotential) -> list[str]:
    """Every parameter of a potential, in the order of its terms."""
    names = []
    for name, term in potential.named_terms():
        names.append(f"{name}.{SCALE}")
        names += [f"{name}.{own}" for own, _ in term.named_parameters()]
        names += [f"{name}.{own}" for own in term.constants()]
    return names


def physical(potential: HybridPotential) -> list[str]:
    """All declared parameters except the scale of a network's energy."""
    networks = {n for n, term in potential.named_terms() if isinstance(term, ShortRange)}
    return [n for n in declared(potential) if n.partition(".")[0] not in networks]


def heads(potential: HybridPotential) -> list[str]:
    """The layers that turn networks' features into energies."""
    tops = [n for n, term in potential.named_terms() if isinstance(term, ShortRange)]
    prefixes = tuple(f"{top}.energy." for top in tops)
    return [n for n in parameter_names(potential) if n.startswith(prefixes)]


def lora(potential: HybridPotential) -> list[str]:
    """Low-rank updates (`hff_ase.training.adapt`)."""
    return [n for n in parameter_names(potential) if n.endswith((".lora_down", ".lora_up"))]


GROUPS: dict[str, Callable[[HybridPotential], list[str]]] = {
    "physical": physical,
    "heads": heads,
    "lora": lora,
}


def declared(potential: HybridPotential) -> dict[str, Declared]:
    """Declarations of a potential's physical parameters, by name."""
    found = {}
    for name, term in potential.named_terms():
        found[f"{name}.{SCALE}"] = SCALE_DECLARED
        found |= {f"{name}.{own}": what for own, what in term.declared().items()}
    return found


def matching(potential: HybridPotential, patterns: Sequence[str]) -> list[str]:
    """The parameters that patterns or names of groups stand for, each once, in the order of the
    potential.

    Raises:
        ConfigError: a pattern that names none.
    """
    names = parameter_names(potential)
    chosen: set[str] = set()
    for pattern in patterns:
        group = GROUPS.get(pattern)
        found = group(potential) if group else [n for n in names if fnmatchcase(n, pattern)]
        if not found:
            tops = sorted({name.split(".", 1)[0] for name in names})
            raise ConfigError(
                f"expected {', '.join(GROUPS)} or names of parameters of the terms {tops}, such as "
                f"'{tops[0]}.scale' or '{tops[0]}.*', got {pattern!r}"
                + (", of which this model has none" if group else "")
            )
        chosen.update(found)
    return [name for name in names if name in chosen]


def places(potential: HybridPotential, names: Sequence[str]) -> dict[str, Place]:
    """Places of the named parameters that are constants of their terms."""
    known = {
        f"{name}.{own}": (term, path)
        for name, term in potential.named_terms()
        for own, path in term.constants().items()
    }
    return {name: known[name] for name in names if name in known}


def values(potential: HybridPotential, names: Sequence[str]) -> dict[str, Tensor]:
    """Values of any parameters, float64, detached."""
    own, constants = tensors(potential, names), places(potential, names)
    found = {}
    for name in names:
        if name in own:
            found[name] = own[name].detach().double().clone()
        elif name in constants:
            found[name] = read(*constants[name])
        else:
            scale = potential.scales.get(name.removesuffix(f".{SCALE}"), 1.0)
            found[name] = torch.tensor(scale, dtype=torch.float64)
    return found


def set_values(potential: HybridPotential, new: Mapping[str, Tensor]) -> None:
    """Set parameters of any kind, in place.

    Evaluators of the potential must `forget` where a cutoff may have changed.

    Raises:
        ConfigError: a value that its term refuses; nothing is changed then.
    """
    own, constants = tensors(potential, list(new)), places(potential, list(new))
    before = {name: read(*place) for name, place in constants.items()}
    try:
        for name, place in constants.items():
            write(*place, new[name])
        for term, _ in dict(constants.values()).items():
            type(term)(**term.config())  # type: ignore[operator]
    except ConfigError:
        for name, place in constants.items():
            write(*place, before[name])
        raise
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(new[name])
    for name in new.keys() - own.keys() - constants.keys():
        potential.scales[name.removesuffix(f".{SCALE}")] = float(new[name])


def tensors(potential: HybridPotential, names: Sequence[str]) -> dict[str, Tensor]:
    """The named parameters that are torch parameters (not scales and constants)."""
    known = {
        f"{name}.{own}": value
        for name, term in potential.named_terms()
        for own, value in term.named_parameters()
    }
    return {name: known[name] for name in names if name in known}


@contextmanager
def requiring_gradients(parameters: Sequence[Tensor], others: Sequence[Tensor]) -> Iterator[None]:
    """Temporarily let only some parameters require gradients."""
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
