"""MACE with random weights: energy and forces, neighbour list given.

off-small: the size and cutoff of MACE-OFF23 small (96x0e, max_ell 3, correlation 3, two layers,
4.5 A); 128x1o: 128x(0e+1o) at 5 A, otherwise the same.
"""

from __future__ import annotations

import numpy as np
import torch
from common import CUTOFF, NUMBERS, Graph, graph_of, options, read_all, report, timed
from e3nn import o3
from mace.modules import ScaleShiftMACE, interaction_classes
from torch import Tensor

VARIANTS = {"off-small": ("96x0e", 4.5), "128x1o": ("128x0e + 128x1o", CUTOFF)}


def build(variant: str, neighbors: float) -> torch.nn.Module:
    """The network."""
    torch.manual_seed(0)
    irreps, cutoff = VARIANTS[variant]
    residual = interaction_classes["RealAgnosticResidualInteractionBlock"]
    return ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=residual,
        interaction_cls_first=interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(NUMBERS),
        hidden_irreps=o3.Irreps(irreps),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(len(NUMBERS)),
        avg_num_neighbors=neighbors,
        atomic_numbers=list(NUMBERS),
        correlation=3,
        radial_type="bessel",
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )


def inputs(graph: Graph) -> dict[str, Tensor]:
    """What MACE takes."""
    ends = torch.cumsum(graph.counts, 0)
    return {
        "positions": graph.positions.clone(),
        "node_attrs": torch.nn.functional.one_hot(graph.types, len(NUMBERS)).float(),
        "edge_index": torch.stack([graph.i, graph.j]),
        "shifts": graph.shift,
        "unit_shifts": graph.cell_shift,
        "cell": graph.cell.reshape(-1, 3),
        "batch": graph.system,
        "ptr": torch.cat([torch.zeros(1, dtype=torch.int64), ends]),
        "head": torch.zeros(len(graph.cell), dtype=torch.int64),
    }


def main() -> None:
    """Measure, print one line."""
    args = options(__doc__, tuple(VARIANTS)).parse_args()
    torch.set_num_threads(args.threads)
    graph = graph_of(read_all(args.structures), VARIANTS[args.variant][1])
    model = build(args.variant, len(graph.i) / len(graph.numbers)).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    given = inputs(graph)
    times = timed(lambda: model(dict(given), compute_force=True, training=False), args.repeats)
    report(
        f"MACE {args.variant}",
        "mace-torch",
        graph,
        model,
        times_ms=times,
        peer="mace",
        variant=args.variant,
    )


if __name__ == "__main__":
    main()
