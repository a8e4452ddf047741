"""What a student is made of: a network by name, and the physics of its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase import Atoms
from ase.data import chemical_symbols

from hff_ase.calculators.hybrid import HybridFF
from hff_ase.errors import ConfigError
from hff_ase.nets import NETWORKS
from hff_ase.nets.presets import PRESETS
from hff_ase.potential import HybridPotential
from hff_ase.terms.coulomb import Coulomb, damping_range
from hff_ase.terms.qeq import QEq
from hff_ase.terms.short_range import ShortRange

# Training needs the gradient, not its last digits: what costs least for boxes of some hundred
# atoms. The saved model sums as the teacher does.
TRAINING_COULOMB: dict[str, Any] = {"method": "ewald", "cutoff": 6.0, "tolerance": 1e-4}
FILLED_IN = ("elements", "channels")  # of the student's own
Terms = dict[str, dict[str, Any]]


def network_of(student: str) -> dict[str, Any]:
    """Arguments of the short-range term for a name such as get-small: network and preset.

    Raises:
        ConfigError: no such network or preset.
    """
    network, _, size = student.partition("-")
    preset = student if student in PRESETS else size
    if student not in students():
        raise ConfigError(f"expected a student among {', '.join(students())}, got {student!r}")
    return {"kind": "short_range", "network": network, "options": {"preset": preset}}


def students() -> list[str]:
    """Names that `network_of` knows: presets are named after their network, or those of GET."""
    prefixes = tuple(f"{network}-" for network in NETWORKS)
    return sorted(name if name.startswith(prefixes) else f"get-{name}" for name in PRESETS)


def terms_like(teacher: HybridPotential | None, network: Mapping[str, Any]) -> tuple[Terms, Terms]:
    """Terms of a student with the physical terms of a teacher, and what differs once it is saved.

    The network and the terms that read its features start from random weights; tables (of
    dispersion, repulsion, damping, charge equilibration) are the teacher's. Without a teacher of
    this package the student is the network alone.

    Returns:
        ``terms`` and ``save_as`` of `hff_ase.training.config.ModelSection`.
    """
    if teacher is None:
        return {"short_range": dict(network)}, {}
    terms: Terms = {}
    save_as: Terms = {}
    names = [name for name, term in teacher.named_terms() if isinstance(term, ShortRange)]
    if not names:
        terms["short_range"] = dict(network)
    for name, term in teacher.named_terms():
        if isinstance(term, ShortRange):
            terms[name] = dict(network)
            continue
        config = term.config() | (tables_of(term) if isinstance(term, QEq) else {})
        config = {key: value for key, value in config.items() if key not in FILLED_IN}
        if "charge_response" in config:
            config["charge_response"] = True  # a model that is trained needs it
        terms[name] = {"kind": term.kind, **config}
        if isinstance(term, Coulomb):
            save_as[name] = {key: config[key] for key in TRAINING_COULOMB}
            shortest = damping_range(*term.damping) if term.damping else 0.0
            terms[name] |= TRAINING_COULOMB
            terms[name]["cutoff"] = max(TRAINING_COULOMB["cutoff"], shortest)
    return terms, save_as


def tables_of(term: QEq) -> dict[str, dict[str, float]]:
    """The trained tables of charge equilibration (its config holds those it started from)."""
    values = {
        "electronegativity": term.electronegativity.double(),
        "hardness": torch.exp(term.log_hardness.double()),
        "width": term.widest * torch.sigmoid(term.width_logit.double()),
    }
    elements = term.species.elements
    return {
        name: dict(zip(elements, value.detach().cpu().tolist(), strict=True))
        for name, value in values.items()
    }


def elements_of(frames: Sequence[Atoms], teachers: Sequence[Any]) -> list[str]:
    """The elements in the frames, in the order of the first teacher of this package.

    A student knows what it has seen, not all that its teacher knows.
    """
    present = {chemical_symbols[z] for atoms in frames for z in set(atoms.numbers.tolist())}
    first = first_hybrid(teachers)
    order = chemical_symbols if first is None or first.elements is None else first.elements
    return [symbol for symbol in order if symbol in present]


def first_hybrid(teachers: Sequence[Any]) -> HybridPotential | None:
    """The potential of the first teacher of this package, if there is one."""
    return next((t.potential for t in teachers if isinstance(t, HybridFF)), None)
