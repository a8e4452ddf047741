"""E3Net with fused edge sums over tabulated radial weights, on the CPU.

Edges, harmonics and what happens on atoms are operations of torch; the sums over edges, which take
the time, are loops (`hff_ase.kernels.e3.loops`) with one derivative, by hand.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hff_ase.backends import Backend
from hff_ase.batch import AtomsBatch
from hff_ase.halo import Halo
from hff_ase.kept import LiveParameters
from hff_ase.kernels.e3.edges import EdgeVectors, edges_within
from hff_ase.kernels.e3.table import kept_tables, live_tables
from hff_ase.kernels.e3.tabulated import edge_sum, places_of
from hff_ase.nets.e3 import E3Net
from hff_ase.nets.e3_algebra import spherical_harmonics
from hff_ase.nets.e3_convolution import couplings, factors_of
from hff_ase.pairs import Rows


def fused_e3(
    net: E3Net,
    species: Tensor,
    batch: AtomsBatch,
    rows: Rows,
    backend: Backend,
    parameters: LiveParameters | None = None,
    halo: Halo | None = None,
) -> Tensor:
    """E3Net as a `hff_ase.kernels.networks.FusedNetwork`, without an exchange between layers."""
    if halo is not None:
        raise RuntimeError("expected a fused E3Net on whole systems, got a halo")
    if backend != "numba":
        raise RuntimeError(f"expected numba for a fused E3Net, got {backend}")
    if parameters is None:
        tables = kept_tables(net)
    else:
        tables = parameters.of(net, lambda: live_tables(net))
    moves = batch.positions.requires_grad or batch.cell.requires_grad
    if moves or not torch.is_grad_enabled():  # positions and cell, or parameters: not both
        tables = tuple(table.detach() for table in tables)
    edges = edges_within(batch, rows, net.cutoff)
    vector = EdgeVectors.apply(batch.positions, batch.cell, edges, batch, rows)
    distance = torch.linalg.vector_norm(vector, dim=-1)
    x = net.embedding(species)[:, None, :]
    places = places_of(distance, edges, len(tables[0]), net.cutoff, x.dtype)
    harmonics = spherical_harmonics(net.l_edge, vector.to(x.dtype))
    for layer, table in zip(net.interactions, tables, strict=True):
        terms = couplings(layer.l_in, layer.l_edge, layer.l_sum)
        factors = factors_of(harmonics, terms)
        x = layer.update(x, edge_sum(layer.senders(x), table, factors, places, terms), species)
    return x[:, 0]
