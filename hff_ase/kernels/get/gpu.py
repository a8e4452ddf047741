"""GET's edge sums on a GPU, forward and backward: the backend of `hff_ase.kernels.get.network`.

For atom i, summed over its neighbours j within the cutoff, per channel of head h,

    m_i = sum_j v_j e(r) silu(q_i . k_j) f(r)        M_i = sum_j v_j e(r) u,   u = (x_j - x_i)/r

with features e and envelope f from `hff_ase.kernels.get.table`. The list is full, so that the
gradients of an atom are gathered from its own row (`gpu_messages`): no atomics, and the same result
in every run. Channels are head-fastest. docs/decisions/gpu-kernels.md says why it is built so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from hff_ase.errors import StructureError
from hff_ase.kernels.get import gpu_messages
from hff_ase.kernels.get.gpu_edges import edges_kernel
from hff_ase.kernels.get.table import RadialTable
from hff_ase.pairs import Rows

INTERPRETED = not isinstance(edges_kernel, triton.JITFunction)

# Neighbours per tile and warps, those that leave no value in memory that belongs into a register
# (64 channels, sm_90). Which is fastest is measured when a kernel is first used, and there only: a
# kernel must have run once before a graph is captured.
TILES = ((2, 1), (4, 1), (4, 2), (8, 4))
INTERPRETED_TILES = ((16, 1),)


def _tuned(kernel: Any, restore: list[str]) -> Any:
    tiles = INTERPRETED_TILES if INTERPRETED else TILES
    configs = [triton.Config({"BLOCK": block}, num_warps=warps) for block, warps in tiles]
    sizes = ["HEADS", "DEPTH", "VECTORS", "SHARED"]
    return triton.autotune(configs=configs, key=sizes, restore_value=restore)(kernel)


_forward: Any = _tuned(gpu_messages.forward_kernel, [])
_backward: Any = _tuned(gpu_messages.backward_kernel, ["d_positions", "d_cell"])


@dataclass(frozen=True)
class DeviceEdges:
    """The pairs within the cutoff, atom i's in the slots start[i] ... start[i] + count[i].

    Attributes:
        start, count: int32 [n_atoms].
        index, geometry: see `gpu_edges.edges_kernel`.
        shift: int32 [n_slots, 3], that of the rows.
    """

    start: Tensor
    count: Tensor
    index: Tensor
    geometry: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Accumulators:
    """Where the backward passes of all layers add dE/dpositions [n_atoms, 3] and each atom's share
    of dE/dcell [n_atoms, 9], float64; ``cell`` is None where it is not wanted."""

    positions: Tensor
    cell: Tensor | None

    @classmethod
    def zeros(cls, n_atoms: int, device: torch.device, cell: bool) -> Accumulators:
        """Empty accumulators."""
        options: Any = {"dtype": torch.float64, "device": device}
        share = torch.zeros(n_atoms, 9, **options) if cell else None
        return cls(torch.zeros(n_atoms, 3, **options), share)

    def d_cell(self, system: Tensor, n_systems: int) -> Tensor | None:
        """dE/dcell [n_systems, 3, 3] of each system's energy."""
        if self.cell is None:
            return None
        if n_systems == 1:
            return self.cell.sum(0).view(1, 3, 3)
        return self.cell.new_zeros(n_systems, 9).index_add(0, system, self.cell).view(-1, 3, 3)


def prepare_edges(
    positions: Tensor, cell: Tensor, system: Tensor, rows: Rows, cutoff: float, table: RadialTable
) -> DeviceEdges:
    """Distances, directions and places in the table of the pairs within the cutoff.

    Done once per evaluation rather than once per layer and direction: a list with skin holds 1.7
    times the pairs that count, and their vectors need float64.

    Args:
        positions: float64 [n_atoms, 3] and cell: float64 [n_systems, 3, 3], Angstrom.
        system: int64 [n_atoms], the system of each atom.
        rows: a full list.
        cutoff: of the network, Angstrom.
        table: its radial functions.

    Raises:
        StructureError: more atoms or pairs than 32-bit indices reach.
    """
    n_atoms, n_slots = positions.shape[0], rows.j.shape[0]
    channels = table.coefficients.shape[-1]
    if max(n_atoms * 3 * channels, n_slots) >= 2**31:
        raise StructureError(
            f"expected at most {2**31 // (3 * channels)} atoms and {2**31} pairs for {channels} "
            f"channels, got {n_atoms} and {n_slots}"
        )
    device = positions.device
    edges = DeviceEdges(
        start=rows.start,
        count=torch.empty_like(rows.count),
        index=torch.empty(n_slots, 3, dtype=torch.int32, device=device),
        geometry=torch.empty(n_slots, 8, dtype=torch.float32, device=device),
        shift=rows.shift,
    )
    edges_kernel[(n_atoms,)](
        positions.detach().contiguous(),
        cell.detach().contiguous(),
        system,
        rows.start,
        rows.count,
        rows.j,
        rows.shift,
        table.envelope_coefficients,
        edges.count,
        edges.index,
        edges.geometry,
        N_INTERVALS=table.n_intervals,
        CUTOFF=float(cutoff),
        BLOCK=32,
        num_warps=1,
    )
    return edges


def forward_messages(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    edges: DeviceEdges,
    table: RadialTable,
    heads: int,
    vectors: bool,
    row_of: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """m [n_atoms, channels] and, with ``vectors``, M [n_atoms, 3, channels].

    Args:
        q, k, v: float32 [n_rows, channels], or such thirds of one tensor [n_rows, 3 channels].
        row_of: integers [n_atoms], the row of each atom where atoms share rows (the first layer:
            one row per species); None where each has its own.
    """
    n_atoms, channels = edges.count.shape[0], q.shape[1]
    m = q.new_empty(n_atoms, channels)
    big_m = q.new_empty(n_atoms, 3, channels) if vectors else None
    _forward[(n_atoms,)](
        q,
        k,
        v,
        edges.count if row_of is None else row_of,
        edges.start,
        edges.count,
        edges.index,
        edges.geometry,
        table.coefficients,
        m,
        m if big_m is None else big_m,
        _stride(q, k, v),
        SHARED=row_of is not None,
        VECTORS=vectors,
        **_sizes(channels, heads),
    )
    return m, big_m


def backward_messages(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad_m: Tensor,
    grad_big_m: Tensor | None,
    edges: DeviceEdges,
    table: RadialTable,
    heads: int,
    accumulators: Accumulators,
    nodes: bool = True,
    row_of: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Gradients of q, k and v; adds those of positions and cell to the accumulators.

    Args:
        q, k, v, row_of: as in the forward pass.
        grad_m: float32 [n_atoms, channels]; grad_big_m: [n_atoms, 3, channels] or None.
        nodes: False where q, k and v are constants, as shared rows always are: returns None.

    Returns:
        The thirds of one tensor [n_atoms, 3 channels].
    """
    nodes = nodes and row_of is None
    n_atoms, channels = edges.count.shape[0], q.shape[1]
    grad_q, grad_k, grad_v = q.new_empty(n_atoms if nodes else 0, 3 * channels).chunk(3, dim=1)
    d_cell = accumulators.cell
    _backward[(n_atoms,)](
        q,
        k,
        v,
        edges.count if row_of is None else row_of,
        grad_m.contiguous(),
        grad_m if grad_big_m is None else grad_big_m.contiguous(),
        edges.start,
        edges.count,
        edges.shift,
        edges.index,
        edges.geometry,
        table.coefficients,
        grad_q,
        grad_k,
        grad_v,
        accumulators.positions,
        accumulators.positions if d_cell is None else d_cell,
        1.0 / table.spacing,
        _stride(q, k, v),
        3 * channels,
        SHARED=row_of is not None,
        VECTORS=grad_big_m is not None,
        NODES=nodes,
        CELL=d_cell is not None,
        **_sizes(channels, heads),
    )
    return (grad_q, grad_k, grad_v) if nodes else None


def _stride(*parts: Tensor) -> int:
    """Stride of the rows of q, k and v, which is the same for all."""
    stride = parts[0].stride(0)
    if any(part.stride() != (stride, 1) for part in parts):
        raise ValueError(f"expected q, k, v with equal rows, got {[p.stride() for p in parts]}")
    return stride


def _sizes(channels: int, heads: int) -> dict[str, int]:
    depth = channels // heads
    padded = triton.next_power_of_2
    return {
        "HEADS": heads,
        "DEPTH": depth,
        "HEADS_PAD": padded(heads),
        "DEPTH_PAD": padded(depth),
    }
