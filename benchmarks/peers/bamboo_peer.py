"""BAMBOO (Gong et al., Nat. Mach. Intell. 2025) in plain torch, or its published TorchScript.

eager: the published network, charges, real-space Coulomb and dispersion in float32, written from
the equations, in the order of evaluation of the published model: directed pairs throughout, the
network differentiated in its pair vectors, closed-form pair forces at fixed charges for Coulomb
(5 A) and dispersion (10 A). network: the network and charges alone. published: the TorchScript
given with --path, called as its LAMMPS pair style calls it. Neighbour lists are given; k-space is
not part of it.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from common import CUTOFF, Graph, graph_of, options, read_all, report, timed
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, silu, softplus

HEADS = 16
COULOMB_CUTOFF = 5.0
DISPERSION_CUTOFF = 10.0
K_E = 332.06349451357806  # kcal/mol A/e^2
R0, SHARPNESS = 2.2, 18.7  # of the damping of Coulomb
G_EWALD = 0.7  # 1/A, about what 1e-6 at 5 A asks for; its value does not change the time


class Bamboo(nn.Module):
    """Energies in kcal/mol per system, forces in kcal/mol/A, charges; all float32."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.arrays = {name: torch.as_tensor(np.array(a)).float() for name, a in arrays.items()}
        self.middle = sum(name.endswith("qkv_proj.weight") for name in arrays) - 2

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return linear(x, self.arrays[f"{name}.weight"], self.arrays.get(f"{name}.bias"))

    def _mlp(self, x: Tensor, name: str) -> Tensor:
        x = silu(self._linear(x, f"{name}.0"))
        x = silu(self._linear(x, f"{name}.2"))
        return self._linear(x, f"{name}.4")[:, 0]

    def _attention(self, x: Tensor, name: str, edges: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Scalar messages [n, 64] and value vectors of the senders [n_edges, 1, heads, d]."""
        i, j, envelope, feature = edges
        norm = (self.arrays[f"{name}.layer_norm.weight"], self.arrays[f"{name}.layer_norm.bias"])
        x = layer_norm(x, (x.shape[1],), *norm)
        q, k, v = self._linear(x, f"{name}.qkv_proj").view(len(x), HEADS, -1).chunk(3, dim=-1)
        weight = silu((q[i] * k[j]).sum(-1)) * envelope[:, None]
        v = v[j]
        message = v * feature * weight[:, :, None]
        return scatter(message, i, len(x)).flatten(1), v[:, None]

    def features(self, numbers: Tensor, i: Tensor, j: Tensor, vector: Tensor) -> Tensor:
        """Node features [n_atoms, 64] after all layers; vector is r_i - r_j."""
        n = len(numbers)
        x = self.arrays["atom_embtab.weight"][numbers]
        r = vector.square().sum(1).sqrt()
        unit = vector / r[:, None]
        envelope = 0.5 * (torch.cos(r * (math.pi / CUTOFF)) + 1.0)
        offset = torch.exp(-5.0 / CUTOFF * r)[:, None] - self.arrays["dis_rbf.means"]
        basis = envelope[:, None] * torch.exp(-self.arrays["dis_rbf.betas"] * offset.square())
        feature = silu(self._linear(basis, "dv_proj.0")).view(len(r), HEADS, -1)
        direction = feature[:, None] * unit[:, :, None, None]  # [n_edges, 3, heads, d]
        edges = (i, j, envelope, feature)

        message, v = self._attention(x, "first_attn", edges)
        x = x + self._linear(message, "first_attn.o_proj")
        vectors = scatter(v * direction, i, n).flatten(2)  # [n, 3, 64]
        for layer in range(self.middle):
            name = f"attns.{layer}"
            message, v = self._attention(x, name, edges)
            a, b, c = self._linear(vectors, f"{name}.vec_proj").chunk(3, dim=-1)
            o1, o2, o3 = self._linear(message, f"{name}.o_proj").chunk(3, dim=-1)
            x = x + (a * b).sum(1) * o2 + o3
            vectors = vectors + c * o1[:, None] + scatter(v * direction, i, n).flatten(2)
        message, _ = self._attention(x, "last_attn", edges)
        a, b = self._linear(vectors, "last_attn.vec_proj").chunk(2, dim=-1)
        o2, o3 = self._linear(message, "last_attn.o_proj").chunk(2, dim=-1)
        return x + (a * b).sum(1) * o2 + o3

    def charges(self, x: Tensor, graph: Graph) -> Tensor:
        """Charges that add up to each system's, e."""
        free = self._mlp(x, "charge_mlp") + self.arrays["oplsaa_charge.weight"][graph.numbers, 0]
        free = 2.0 * torch.tanh(0.5 * free)
        missing = (graph.charge - scatter(free, graph.system, len(graph.cell))) / graph.counts
        return free + missing[graph.system]

    def charge_energies(self, numbers: Tensor, q: Tensor) -> Tensor:
        """Electronegativity and hardness, per atom."""
        x = self.arrays["atom_embtab.weight"][numbers]
        root = self.arrays["electronegativity_table.weight"][numbers, 0].sqrt()
        chi = root + self._mlp(x, "pred_electronegativity_mlp")
        hardness = self._mlp(x, "pred_electronegativity_hardness_mlp")
        return chi.square() * q + hardness.square() * q.square()

    def network(self, graph: Graph, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energies per atom, charges and forces of the network; vector is r_i - r_j."""
        vector = vector.requires_grad_(True)
        x = self.features(graph.numbers, graph.i, graph.j, vector)
        energies = self._mlp(x, "energy_mlp")
        q = self.charges(x.detach(), graph)
        (gradient,) = torch.autograd.grad(energies.sum(), vector)
        n = len(graph.numbers)
        forces = scatter(gradient, graph.j, n) - scatter(gradient, graph.i, n)
        return energies.detach(), q, forces

    def dispersion(self, numbers: Tensor, i: Tensor, j: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """Energy of each directed pair (a half of the pair's) and -dE/dr of the whole pair."""
        c6, r0 = (self.arrays[f"{name}_emb.weight"][numbers, 0] for name in ("c6", "r0"))
        c6 = (c6[i] * c6[j]).sqrt()
        r6 = r**6
        damped = 1.0 / (r6 + 4.5**6)
        step = torch.sigmoid(2.5 * 0.5 * (r0[i] + r0[j]) - r)
        scale = 0.85 + 0.82 * step
        energy = c6 * (1.0 / DISPERSION_CUTOFF**6 - damped * scale)
        slope = damped * (0.82 * step * (1.0 - step)) + 6.0 * r6 / r * damped.square() * scale
        return 0.5 * energy, -c6 * slope


def coulomb(q: Tensor, i: Tensor, j: Tensor, r: Tensor, g_ewald: float) -> tuple[Tensor, Tensor]:
    """Real-space energy of each directed pair (a half) and -dE/dr of the whole pair."""
    qq = K_E * q[i] * q[j]
    y = r / R0 - 1.0
    near = 1.0 / (1.0 + softplus(y, beta=SHARPNESS, threshold=1e9))
    energy = qq / R0 * near
    force = energy * near * torch.sigmoid(SHARPNESS * y) / R0
    if g_ewald > 0:  # what k-space holds already
        gr = g_ewald * r
        erf = torch.erf(gr)
        energy = energy - qq * erf / r
        force = force - qq / r.square() * (
            erf - 2.0 / math.sqrt(math.pi) * gr * torch.exp(-gr.square())
        )
    return 0.5 * energy, force


def scatter(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sums of rows with the same index."""
    return values.new_zeros((size, *values.shape[1:])).index_add_(0, index, values)


def evaluate(
    model: Bamboo, graph: Graph, electrostatic: Graph, long: Graph, g_ewald: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Energy [n_systems], forces [n_atoms, 3] and charges of network, Coulomb and dispersion."""
    n, numbers = len(graph.numbers), graph.numbers
    energies, q, forces = model.network(graph, _vectors(graph))
    energies = energies + model.charge_energies(numbers, q)
    for pairs, term in ((electrostatic, "coulomb"), (long, "dispersion")):
        vector = _vectors(pairs)
        r = vector.square().sum(1).sqrt()
        if term == "coulomb":
            energy, force = coulomb(q, pairs.i, pairs.j, r, g_ewald)
        else:
            energy, force = model.dispersion(numbers, pairs.i, pairs.j, r)
        energies = energies + scatter(energy, pairs.i, n)
        forces = forces + scatter((force / r)[:, None] * vector, pairs.i, n)
    return scatter(energies, graph.system, len(graph.cell)), forces, q


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the published checkpoint: an .npz of them, or the TorchScript itself."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    state = torch.jit.load(str(path), map_location="cpu").state_dict()
    return {name: value.numpy() for name, value in state.items()}


def _vectors(graph: Graph) -> Tensor:
    return graph.positions[graph.i] - graph.positions[graph.j] - graph.shift


def main() -> None:
    """Measure, print one line."""
    parser = options(__doc__, ("eager", "network", "published"))
    parser.add_argument("--path", type=Path, required=True, help="weights .npz, or TorchScript .pt")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    structures = read_all(args.structures)
    cutoffs = (CUTOFF, COULOMB_CUTOFF, DISPERSION_CUTOFF)
    graphs = [graph_of(structures, cutoff) for cutoff in cutoffs]
    g_ewald = G_EWALD if bool(graphs[0].periodic.all()) else 0.0
    vectors = [_vectors(graph) for graph in graphs]
    if args.variant == "published":
        script = torch.jit.load(str(args.path)).eval()
        names = ("edge", "coul_edge", "disp_edge")
        given = {"atom_types": graphs[0].numbers, "g_ewald": torch.tensor([g_ewald])}
        for name, graph, vector in zip(names, graphs, vectors, strict=True):
            given[f"{name}_index"] = torch.stack([graph.i, graph.j])
            given[f"{name}_cell_shift"] = vector.double()
        times = timed(lambda: script(dict(given))["pred_forces"], args.repeats)
    else:
        model = Bamboo(read_arrays(args.path))
        if args.variant == "network":
            times = timed(lambda: model.network(graphs[0], _vectors(graphs[0])), args.repeats)
        else:
            times = timed(lambda: evaluate(model, *graphs, g_ewald), args.repeats)
    report(
        f"BAMBOO {args.variant}",
        None,
        graphs[0],
        None,
        times_ms=times,
        peer="bamboo",
        variant=args.variant,
        long_edges=len(graphs[2].i),
    )


if __name__ == "__main__":
    main()
