"""Which parameters are trained, by patterns of their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.terms import TERMS

PREFIX = "terms."  # of every parameter of a potential; patterns may leave it out


def in_network(name: str) -> bool:
    """Whether a parameter belongs to a short-range network (not to a head or an element table)."""
    return ".net." in name


def _before_last_layer(names: Sequence[str]) -> set[str]:
    """What a network has outside its last interaction layer."""
    layer = re.compile(r"(.*\.net\.layers\.)(\d+)\.")
    found = {name: match for name in names if (match := layer.match(name))}
    last: dict[str, int] = {}
    for match in found.values():
        last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    kept = {name for name, match in found.items() if int(match[2]) == last[match[1]]}
    return {name for name in names if in_network(name)} - kept


# Name -> the parameters, of those given, that stay unchanged. A preset is named after what is
# trained.
PRESETS: dict[str, Callable[[Sequence[str]], set[str]]] = {
    "everything": lambda names: set(),
    "nothing": lambda names: set(names),
    "heads_only": lambda names: {name for name in names if in_network(name)},
    "last_layer_and_heads": _before_last_layer,
    "all_but_embedding": lambda names: {name for name in names if ".embedding" in name},
}


def matching(pattern: str, names: Sequence[str], what: str = "parameter") -> list[str]:
    """The names that match a pattern (as in a shell; ``terms.`` may be left out).

    Raises:
        ConfigError: none; the message holds the nearest names.
    """
    found = [n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n, PREFIX + pattern)]
    if found:
        return found
    short = [name.removeprefix(PREFIX) for name in names]
    near = difflib.get_close_matches(pattern.removeprefix(PREFIX), short, n=3, cutoff=0.3)
    raise ConfigError(
        f"expected a pattern that matches a {what}, got {pattern!r}; near it are "
        f"{', '.join(near or short[:3]) or 'none'}"
    )


def trainable_by_design(potential: HybridPotential) -> set[str]:
    """The names of the parameters that a potential with these terms trains from scratch."""
    names: set[str] = set()
    for name, term in potential.named_terms():
        fresh = TERMS[term.kind](**term.config())
        names |= {f"{PREFIX}{name}.{p}" for p, v in fresh.named_parameters() if v.requires_grad}
    return names


def set_trainable(
    potential: HybridPotential, freeze: Sequence[str], unfreeze: Sequence[str] = ()
) -> list[str]:
    """Make all parameters trainable that are by design, but those frozen.

    Args:
        freeze: presets (`PRESETS`) and patterns.
        unfreeze: patterns of what is trained anyway, such as ``"*.reference_energy"``, which
            is not by design.

    Returns:
        The names of the trainable parameters.

    Raises:
        ConfigError: a pattern that matches nothing.
    """
    parameters = dict(potential.named_parameters())
    names = list(parameters)
    low_rank = {n for n in names if n.endswith((".lora_down", ".lora_up"))}
    trained = (trainable_by_design(potential) | low_rank) & set(names)
    for pattern in freeze:
        if pattern in PRESETS:
            trained -= PRESETS[pattern](names)
        else:
            trained -= set(matching(pattern, names))
    for pattern in unfreeze:
        trained |= set(matching(pattern, names))
    # Under a low-rank update the weight itself stays.
    trained -= {name.removesuffix("lora_up") + "weight_before" for name in low_rank}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
    return [name for name in names if name in trained]


def count_trainable(module: nn.Module) -> tuple[int, int]:
    """Numbers that are trained, and all."""
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
