"""What every pair-additive term needs: the smooth end of its range and the split between atoms."""

from __future__ import annotations

from torch import Tensor

from hff_ase.neighbors import Pairs


def switch_off(distance: Tensor, start: Tensor | float, stop: Tensor | float) -> Tensor:
    """1 up to ``start``, 0 from ``stop`` on, with two continuous derivatives in between.

    s(x) = 1 - x^3 (10 - 15 x + 6 x^2) with x = (r - start)/(stop - start), the lowest polynomial
    whose first and second derivatives vanish at both ends.

    Args:
        distance: [n_pairs], Angstrom; start, stop: Angstrom, scalars or [n_pairs].
    """
    x = ((distance - start) / (stop - start)).clamp(0.0, 1.0)
    return 1.0 - x**3 * (10.0 - x * (15.0 - 6.0 * x))


def share_pairs(energy: Tensor, pairs: Pairs, n_atoms: int) -> Tensor:
    """Atomic energies [n_atoms]: half of each energy of a half list [n_pairs] to either atom."""
    half = 0.5 * energy
    return energy.new_zeros(n_atoms).index_add(0, pairs.i, half).index_add(0, pairs.j, half)
