"""Checks for terms, potentials and calculators, ours and anyone's.

from hff_ase.testing import check_calculator, check_potential, check_term

Each check raises AssertionError with what was compared, for which structure, and by how much it is
off. They need no test framework and no data.
"""

from __future__ import annotations

from hff_ase.testing.batching import (
    check_batch_equals_single,
    check_input_untouched,
    check_no_gradient_across_systems,
    check_shapes,
)
from hff_ase.testing.calculator import check_calculator
from hff_ase.testing.derivatives import (
    check_consistent_sum,
    check_forces,
    check_stress,
    strained,
    term_gradients,
)
from hff_ase.testing.kernels import check_kernels
from hff_ase.testing.locality import (
    check_additive,
    check_empty_neighborhoods,
    check_padded_list,
    check_skin,
    check_smooth_at_cutoff,
    check_zero_beyond_cutoff,
)
from hff_ase.testing.structures import (
    ELEMENTS,
    cluster,
    hexafluorophosphate,
    ionic_box,
    random_rotation,
    sample_structures,
)
from hff_ase.testing.suite import check_potential, check_term
from hff_ase.testing.symmetry import (
    check_lattice_shift,
    check_permutation,
    check_rotation,
    check_translation,
    rotated,
)

__all__ = [
    "ELEMENTS",
    "check_additive",
    "check_batch_equals_single",
    "check_calculator",
    "check_consistent_sum",
    "check_empty_neighborhoods",
    "check_forces",
    "check_input_untouched",
    "check_kernels",
    "check_lattice_shift",
    "check_no_gradient_across_systems",
    "check_padded_list",
    "check_permutation",
    "check_potential",
    "check_rotation",
    "check_shapes",
    "check_skin",
    "check_smooth_at_cutoff",
    "check_stress",
    "check_term",
    "check_translation",
    "check_zero_beyond_cutoff",
    "cluster",
    "hexafluorophosphate",
    "ionic_box",
    "random_rotation",
    "rotated",
    "sample_structures",
    "strained",
    "term_gradients",
]
