"""All checks of a potential in one call."""

from __future__ import annotations

from collections.abc import Iterable

from ase import Atoms

from hff_ase.potential import HybridPotential
from hff_ase.terms.term import Term
from hff_ase.testing.batching import (
    check_batch_equals_single,
    check_input_untouched,
    check_no_gradient_across_systems,
    check_shapes,
)
from hff_ase.testing.compare import samples_for
from hff_ase.testing.derivatives import check_consistent_sum, check_forces, check_stress
from hff_ase.testing.kernels import check_kernels
from hff_ase.testing.locality import (
    check_additive,
    check_empty_neighborhoods,
    check_padded_list,
    check_skin,
    check_zero_beyond_cutoff,
)
from hff_ase.testing.symmetry import (
    check_lattice_shift,
    check_permutation,
    check_rotation,
    check_translation,
)


def check_potential(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    *,
    tolerance: float | None = None,
    lattice_sum_tolerance: float | None = None,
    derivative_tolerance: float | None = 1e-6,
) -> None:
    """Run every check on a potential.

    Args:
        potential: the terms; it is left unchanged.
        structures: of elements that it knows; `sample_structures` where not given.
        tolerance: for results that should be the same, relative to their size, at least 1; by
            default 1e-10, or 5e-6 where networks are in float32.
        lattice_sum_tolerance: the same where a mesh or a set of wave vectors plays a part: under
            translations, and with a reused neighbour list.
        derivative_tolerance: for forces and stress against differences of the energy in float64;
            None leaves these out (a model whose forces are not its energy's gradient).

    Raises:
        AssertionError: names the check, the structure and the values.
    """
    structures = samples_for(potential, structures)
    lattice = tolerance if lattice_sum_tolerance is None else lattice_sum_tolerance
    check_shapes(potential, structures)
    check_input_untouched(potential, structures)
    check_batch_equals_single(potential, structures, tolerance)
    check_no_gradient_across_systems(potential, structures)
    check_lattice_shift(potential, structures, tolerance)
    check_translation(potential, structures, lattice)
    check_rotation(potential, structures, tolerance)
    check_permutation(potential, structures, tolerance)
    check_zero_beyond_cutoff(potential)
    check_additive(potential, tolerance)
    check_empty_neighborhoods(potential)
    check_padded_list(potential, structures, tolerance)
    check_skin(potential, structures, lattice)
    check_kernels(potential, structures)
    if derivative_tolerance is not None:
        check_forces(potential, structures, derivative_tolerance)
        check_stress(potential, structures, derivative_tolerance)
        check_consistent_sum(potential, structures)


def check_term(
    term: Term,
    structures: Iterable[Atoms] | None = None,
    *,
    tolerance: float | None = None,
    lattice_sum_tolerance: float | None = None,
    derivative_tolerance: float | None = 1e-6,
) -> None:
    """`check_potential` for one term that needs no fields."""
    check_potential(
        HybridPotential({term.kind: term}),
        structures,
        tolerance=tolerance,
        lattice_sum_tolerance=lattice_sum_tolerance,
        derivative_tolerance=derivative_tolerance,
    )
