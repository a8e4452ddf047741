"""NequIP and Allegro with random weights: energy and forces, neighbour list given.

nequip: l = 1, 64 features, 4 layers, both parities; allegro: l = 1, 2 layers, 64 scalar and 32
tensor features.
"""

from __future__ import annotations

from typing import Any

import torch
from allegro.model import AllegroModel
from allegro.nn import TwoBodyBesselScalarEmbed
from common import CUTOFF, ELEMENTS, Graph, graph_of, options, read_all, report, timed
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state
from torch import Tensor

NAMES = {"nequip": "NequIP l=1 64x4", "allegro": "Allegro l=1"}


def build(variant: str, neighbors: float) -> torch.nn.Module:
    """The network."""
    set_global_state()
    shared: dict[str, Any] = {
        "seed": 0,
        "model_dtype": "float32",
        "r_max": CUTOFF,
        "type_names": list(ELEMENTS),
        "l_max": 1,
        "avg_num_neighbors": neighbors,
    }
    if variant == "nequip":
        return NequIPGNNModel(num_layers=4, num_features=64, **shared)
    return AllegroModel(
        num_layers=2,
        num_scalar_features=64,
        num_tensor_features=32,
        radial_chemical_embed={
            "_target_": f"{TwoBodyBesselScalarEmbed.__module__}.TwoBodyBesselScalarEmbed",
            "num_bessels": 8,
        },
        radial_chemical_embed_dim=64,
        scalar_embed_mlp_hidden_layers_depth=1,
        scalar_embed_mlp_hidden_layers_width=64,
        allegro_mlp_hidden_layers_depth=1,
        allegro_mlp_hidden_layers_width=64,
        readout_mlp_hidden_layers_depth=1,
        readout_mlp_hidden_layers_width=32,
        **shared,
    )


def inputs(graph: Graph) -> dict[str, Tensor]:
    """What NequIP's models take (geometry in float64, whatever the network's precision)."""
    return {
        "pos": graph.positions.double(),
        "edge_index": torch.stack([graph.i, graph.j]),
        "edge_cell_shift": graph.cell_shift.double(),
        "cell": graph.cell.double(),
        "atom_types": graph.types,
        "batch": graph.system,
        "num_atoms": graph.counts,
    }


def main() -> None:
    """Measure, print one line."""
    args = options(__doc__, tuple(NAMES)).parse_args()
    torch.set_num_threads(args.threads)
    graph = graph_of(read_all(args.structures), CUTOFF)
    model = build(args.variant, len(graph.i) / len(graph.numbers)).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    given = inputs(graph)
    times = timed(lambda: model(dict(given))["forces"], args.repeats)
    package = "nequip" if args.variant == "nequip" else "nequip-allegro"
    report(
        NAMES[args.variant],
        package,
        graph,
        model,
        times_ms=times,
        peer=args.variant,
        variant=args.variant,
    )


if __name__ == "__main__":
    main()
