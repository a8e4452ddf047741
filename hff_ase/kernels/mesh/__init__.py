"""Charges to a mesh and back, and the convolution between: the fast forms of
`hff_ase.longrange.bspline` and `hff_ase.longrange.mesh`, in float64.

What they do is exact to rounding, so the differentiable reference runs on them as well; only the
order of sums differs from plain tensor operations.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from hff_ase.backends import backend_for

# Higher splines, and meshes with a shorter axis, are left to the reference.
MAX_ORDER = 6


class MeshStencil(Protocol):
    """Mesh points and weights of atoms at u, the mesh units of `hff_ase.longrange.bspline`."""

    def spread(self, values: Tensor) -> Tensor:
        """sum_i v_i W_i(m), float64 [n_systems, *shape].

        Args:
            values: float64 [n_atoms], or [n_atoms, 4] for v_0 W + (v_1, v_2, v_3) . dW/du.
        """

    def interpolate(self, mesh: Tensor, slopes: bool) -> Tensor:
        """sum_m mesh(m) W_i(m), float64 [n_atoms, 1], and with ``slopes`` d/du too, [.., 4]."""


@runtime_checkable
class CurvedStencil(MeshStencil, Protocol):
    """A stencil with second derivatives."""

    def curvatures(self, mesh: Tensor) -> Tensor:
        """Values, slopes and second derivatives xx, yy, zz, xy, xz, yz in u, [n_atoms, 10]."""


def mesh_stencil(
    u: Tensor, system: Tensor, n_systems: int, shape: tuple[int, int, int], order: int
) -> MeshStencil | None:
    """The stencil of a kernel; None without one.

    Args:
        u: float64 [n_atoms, 3], fractional coordinates times the mesh size, any image.
        system: int64 [n_atoms], the mesh of each atom.
        n_systems, shape: how many meshes of which shape.
        order: of the splines.
    """
    if order > MAX_ORDER or min(shape) < MAX_ORDER:
        return None
    backend = backend_for(u.device)
    if backend == "numba":
        from hff_ase.kernels.mesh.cpu import NumbaStencil

        return NumbaStencil(u, system, n_systems, shape, order)
    if backend == "triton":
        from hff_ase.kernels.mesh.gpu import TritonStencil

        return TritonStencil(u, system, n_systems, shape, order)
    return None
