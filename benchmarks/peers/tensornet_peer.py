"""TensorNet (TorchMD-Net) with random weights: energy and forces, neighbour list given.

2L: 2 layers, 128 channels, 32 radial functions, in torch's operations; 2L-warp: the same with the
package's own kernels, which on a CPU run on one thread. The network's own neighbour search is
replaced by a given list, as for the other peers.
"""

from __future__ import annotations

import torch
from common import CUTOFF, Graph, graph_of, options, read_all, report, timed
from torch import Tensor, nn
from torchmdnet.models import tensornet
from torchmdnet.models.model import create_model

SETTINGS = {
    "model": "tensornet",
    "precision": 32,
    "embedding_dimension": 128,
    "num_layers": 2,
    "num_rbf": 32,
    "rbf_type": "expnorm",
    "trainable_rbf": False,
    "activation": "silu",
    "cutoff_lower": 0.0,
    "cutoff_upper": CUTOFF,
    "max_z": 100,
    "max_num_neighbors": 64,
    "equivariance_invariance_group": "O(3)",
    "prior_model": None,
    "output_model": "Scalar",
    "reduce_op": "sum",
    "atom_filter": -1,
    "derivative": True,
    "check_errors": False,
}


class GivenPairs(nn.Module):
    """Pairs of a list made once; the loop of each atom with itself that TensorNet adds, too."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        atoms = torch.arange(len(graph.numbers))
        index = torch.stack([torch.cat([graph.i, atoms]), torch.cat([graph.j, atoms])])
        self.register_buffer("index", index)
        self.register_buffer("shift", graph.shift)
        self.n_pairs = len(graph.i)

    def forward(
        self, pos: Tensor, batch: Tensor | None = None, box: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Index [2, n], distance [n] and vector [n, 3]; zero for the loops."""
        i, j = self.index[:, : self.n_pairs]
        vector = pos[j] - pos[i] + self.shift
        distance = torch.linalg.vector_norm(vector, dim=-1)
        n_atoms = len(pos)
        return (
            self.index,
            torch.cat([distance, distance.new_zeros(n_atoms)]),
            torch.cat([vector, vector.new_zeros(n_atoms, 3)]),
        )


def use_torch_operations() -> None:
    """What the package does itself where warp is not installed."""
    tensornet.OPT = False
    for name in ("compose_tensor", "decompose_tensor", "tensor_matmul_o3", "tensor_matmul_so3"):
        setattr(tensornet, name, getattr(tensornet, f"_{name}"))


def main() -> None:
    """Measure, print one line."""
    args = options(__doc__, ("2L", "2L-warp")).parse_args()
    torch.set_num_threads(args.threads)
    graph = graph_of(read_all(args.structures), CUTOFF)
    torch.manual_seed(0)
    if args.variant == "2L":
        use_torch_operations()
    model = create_model(SETTINGS).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    representation = model.representation_model
    representation.static_shapes = False
    representation.distance = GivenPairs(graph)

    def step() -> Tensor:
        positions = graph.positions.clone().requires_grad_(True)
        return model(graph.numbers, positions, batch=graph.system)[1]

    times = timed(step, args.repeats)
    report(
        f"TensorNet {args.variant}",
        "torchmd-net",
        graph,
        model,
        times_ms=times,
        peer="tensornet",
        variant=args.variant,
    )


if __name__ == "__main__":
    main()
