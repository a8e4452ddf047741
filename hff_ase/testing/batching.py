"""Checks that batching is only a matter of speed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.potential import HybridPotential
from hff_ase.testing.compare import (
    assert_close,
    device_of,
    evaluate,
    label,
    per_system,
    precision,
    samples_for,
)


def check_input_untouched(
    potential: HybridPotential, structures: Iterable[Atoms] | None = None
) -> None:
    """Neither the batch nor the fields of earlier terms are changed in place.

    An integrator keeps the positions it hands over, and a term that scales ``charges`` in place
    changes the energy of a term that has already been evaluated when it is differentiated.
    """
    batch = AtomsBatch.from_atoms(samples_for(potential, structures), device_of(potential))
    names = ("positions", "numbers", "system", "cell", "periodic", "charge")
    before = {name: getattr(batch, name).clone() for name in names}
    neighbors = potential.neighbor_list()
    potential(batch, neighbors)
    neighborhood = neighbors.bind(batch)
    fields: dict[str, torch.Tensor] = {}
    for name, term in potential.named_terms():
        kept = {key: value.clone() for key, value in fields.items()}
        term(batch, neighborhood, fields)
        for key, value in kept.items():
            if not torch.equal(value, fields.get(key, value.new_empty(0))):
                raise AssertionError(f"term {name!r} changes the field {key!r} that it was handed")
        new = set(fields) - set(kept)
        if new != set(term.gives):
            raise AssertionError(
                f"term {name!r} declares that it gives {sorted(term.gives)}, got {sorted(new)}"
            )
    for name, value in before.items():
        if not torch.equal(value, getattr(batch, name)):
            raise AssertionError(f"evaluation changes {name!r} of the batch that it was handed")


def check_batch_equals_single(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    tolerance: float | None = None,
) -> None:
    """Every system has the same energies, forces, stress and fields alone as in a batch.

    Training, replicas and path integrals evaluate batches, users single structures: nothing else
    makes the two the same model. (Sums in another order: equal to rounding, not bit for bit.)
    """
    structures = samples_for(potential, structures)
    tolerance = precision(potential) if tolerance is None else tolerance
    for atoms, batched in zip(structures, evaluate(potential, structures), strict=True):
        (alone,) = evaluate(potential, atoms)
        for name, expected in alone.items():
            assert_close(
                f"{name} of {label(atoms)}, in a batch and alone",
                batched[name],
                expected,
                tolerance,
            )


def check_no_gradient_across_systems(
    potential: HybridPotential, structures: Iterable[Atoms] | None = None
) -> None:
    """The energy of one system has a gradient of exactly zero on the atoms and cells of others.

    A small leak would go unnoticed in an energy, and would couple replicas that must not know of
    each other.
    """
    structures = samples_for(potential, structures)
    batch = AtomsBatch.from_atoms(structures, device_of(potential))
    neighbors = potential.neighbor_list()
    neighbors.update(batch)
    positions = batch.positions.detach().requires_grad_()
    cell = batch.cell.detach().requires_grad_()
    with torch.enable_grad():
        _, atomic = potential.evaluate_terms(batch.moved(positions, cell), neighbors)
        energy = batch.system_sum(torch.stack(list(atomic.values())).sum(0))
    if not energy.requires_grad:
        return
    for k, atoms in enumerate(structures):
        on_atoms, on_cells = torch.autograd.grad(
            energy[k], (positions, cell), retain_graph=True, allow_unused=True
        )
        for gradient, own in ((on_atoms, batch.system == k), (on_cells, slice(k, k + 1))):
            if gradient is None:
                continue
            foreign = gradient.clone()
            foreign[own] = 0.0
            if bool((foreign != 0).any()):
                raise AssertionError(
                    f"the energy of {label(atoms)} (structure {k}) has a gradient of up to "
                    f"{float(foreign.abs().max()):.1e} on other systems of the batch, not zero"
                )


def check_shapes(potential: HybridPotential, structures: Iterable[Atoms] | None = None) -> None:
    """Every result has its documented shape and is finite, also for one atom alone.

    One atom is where squeezed dimensions and empty pair lists show.
    """
    for atoms in samples_for(potential, structures):
        batch = AtomsBatch.from_atoms(atoms, device_of(potential))
        result = potential(batch)
        n = len(atoms)
        expected = {"energy": (), "atomic energies": (n,), "forces": (n, 3), "stress": (3, 3)}
        (got,) = per_system(result, batch)
        for name, value in got.items():
            shape = (n, *value.shape[1:]) if name.startswith("field") else expected.get(name, ())
            if value.shape != shape:
                raise AssertionError(
                    f"{name} of {label(atoms)}: expected shape {shape}, got {value.shape}"
                )
            assert_close(f"{name} of {label(atoms)}", value, value, 0.0)
        if result.energy.dtype != torch.float64:
            raise AssertionError(f"expected energies in float64, got {result.energy.dtype}")
