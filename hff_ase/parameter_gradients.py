"""Per-frame derivatives of energies in named parameters, for reweighting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hff_ase import parameters as named
from hff_ase.batch import AtomsBatch
from hff_ase.constants import live
from hff_ase.errors import ConfigError
from hff_ase.kept import LiveParameters
from hff_ase.kernels.networks import differentiable_parameters
from hff_ase.pair_source import PairSource
from hff_ase.passes import Evaluation, Wanted
from hff_ase.potential import HybridPotential
from hff_ase.terms.pairwise import ElementPairTerm
from hff_ase.terms.short_range import ShortRange


def parameter_gradients(
    potential: HybridPotential,
    batch: AtomsBatch,
    source: PairSource,
    wanted: Wanted,
    patterns: Sequence[str],
    result: Evaluation,
) -> dict[str, Tensor]:
    """dE/dtheta of every system for the parameters that patterns name, float64 [n_systems, ...].

    A scale's is its term's energy. For the others there is a pass per system: reverse mode gives
    one row of the Jacobian at a time, over the terms that depend on them. Fused kernels are used
    where they give these gradients.

    Args:
        batch: in the order of the source.
        wanted: the request, of which the parts count.
        patterns: as `hff_ase.parameters.matching` takes them.
        result: of the batch.

    Raises:
        ConfigError: a pattern that names no parameter.
    """
    names = named.matching(potential, patterns)
    places = named.places(potential, names)
    constants = {name: value.to(batch.device) for name, value in
                 named.values(potential, list(places)).items()}  # fmt: skip
    parameters = named.tensors(potential, names) | constants
    rows: list[dict[str, Tensor]] = []
    if parameters:
        others = [p for p in potential.parameters() if p.requires_grad]
        how = Wanted(create_graph=True)
        if not constants:
            how = _for_parameters(potential, list(parameters))
        parts = wanted.parts or _depending(potential, list(parameters))
        how = replace(how, parts=parts)  # without a memory: no step of the trajectory
        with (
            named.requiring_gradients(list(parameters.values()), others),
            live(list(places.values()), list(constants.values())),
            torch.enable_grad(),
        ):
            rows = [
                named.gradients(energy, parameters)
                for energy in _energies(potential, batch, source, how)
            ]
    zero = torch.zeros_like(result.energy)
    found = {}
    for name in names:
        if name in parameters:
            found[name] = torch.stack([row[name] for row in rows])
        else:
            term = name.removesuffix(f".{named.SCALE}")
            scale = potential.scales.get(term, 1.0)
            if scale == 0.0:
                raise ConfigError(f"expected a scale of {term!r} that is not 0 for its gradient")
            found[name] = result.energy_terms.get(term, zero) / scale
    return found


def _energies(
    potential: HybridPotential, batch: AtomsBatch, source: PairSource, how: Wanted
) -> Iterator[Tensor]:
    """The energy of each system, with its graph."""
    for system in torch.arange(batch.n_systems, device=batch.device).unbind():
        alone, neighbors = batch, source
        if batch.n_systems > 1:
            neighbors = potential.neighbor_list()
            alone = neighbors.follow(batch.select(system[None]))
        how = how if how.parameters is None else replace(how, parameters=LiveParameters())
        _, atomic = potential.evaluate_terms(alone, neighbors, how)
        yield torch.stack([values.sum() for values in atomic.values()]).sum()


def _depending(potential: HybridPotential, names: Sequence[str]) -> frozenset[str] | None:
    """The terms whose energies depend on some parameters: directly, or through fields.

    None where that is all of them: a batch evaluated whole may share passes between terms.
    """
    fed: set[str] = set()
    found = []
    for name, term in potential.named_terms():
        if any(own.startswith(f"{name}.") for own in names) or fed & set(term.needs):
            fed |= set(term.gives)
            found.append(name)
    return None if len(found) == len(potential.terms) else frozenset(found)


def _for_parameters(potential: HybridPotential, names: Sequence[str]) -> Wanted:
    """Fused kernels where they support these parameters, else the reference."""
    backend = potential.backend(potential.known.device)
    asked = [
        term
        for name, term in potential.named_terms()
        if any(own.startswith(f"{name}.") for own in names)
    ]
    for term in asked:
        constant = isinstance(term, ElementPairTerm) or term.owns_coulomb  # to their kernels
        if backend != "numba" or constant:
            return Wanted(create_graph=True)
        if isinstance(term, ShortRange) and not differentiable_parameters(term.net, backend):
            return Wanted(create_graph=True)
    return Wanted(parameters=LiveParameters())
