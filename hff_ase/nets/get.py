"""GET, the graph equivariant transformer of BAMBOO (Gong et al., Nat. Mach. Intell. 2025).

Node features are `channels` scalars and as many vectors; an edge carries a radial feature that is a
function of its distance alone. Attention is linear: silu(q_i . k_j) per head instead of a softmax,
so a node's message is a plain sum over its edges.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hff_ase.errors import ConfigError
from hff_ase.halo import Halo, exchange
from hff_ase.nets.network import Network
from hff_ase.nets.radial import Envelope, ExpNormalBasis, Shape

__all__ = ["GET"]


class GET(Network):
    """Graph equivariant transformer: species and edge vectors to scalar node features.

    Args:
        n_species: rows of the embedding table.
        channels: scalar (and vector) channels per node.
        heads: attention heads; divides `channels`.
        layers: interaction layers, at least 2.
        n_radial: exp-normal radial basis functions, trainable.
        cutoff: Angstrom.
        envelope: "cosine" as published (one continuous derivative at the cutoff), "polynomial"
            (two) or "smooth" (three).
        attention: False leaves out queries, keys and heads: m_i = sum_j v_j e_ij (the published
            ablation GE).
        vectors: False leaves out the vectors, every layer is x <- x + O(m) (the ablation GIT).

    Raises:
        ConfigError: a size that cannot be.
    """

    def __init__(
        self,
        n_species: int,
        channels: int = 64,
        heads: int = 16,
        layers: int = 3,
        n_radial: int = 32,
        cutoff: float = 5.0,
        envelope: Shape = "smooth",
        attention: bool = True,
        vectors: bool = True,
    ) -> None:
        if min(n_species, channels, heads, n_radial) < 1 or channels % heads:
            raise ConfigError(
                "expected positive sizes and heads that divide channels, got "
                f"{n_species} species, {channels} channels, {heads} heads, {n_radial} radial"
            )
        if layers < 2 or not cutoff > 0:
            raise ConfigError(
                f"expected at least 2 layers and a positive cutoff, got {layers} and {cutoff}"
            )
        options = {
            "channels": channels,
            "heads": heads,
            "layers": layers,
            "n_radial": n_radial,
            "cutoff": cutoff,
            "envelope": envelope,
            "attention": attention,
            "vectors": vectors,
        }
        super().__init__(n_species, options)
        self.envelope = Envelope(cutoff, envelope)
        self.basis = ExpNormalBasis(n_radial, cutoff)
        self.radial = nn.Linear(n_radial, channels, bias=False)
        kinds: list[type[Attention]] = [FirstLayer, *[MiddleLayer] * (layers - 2), LastLayer]
        if not vectors:
            kinds = [ScalarLayer] * layers
        self.layers = nn.ModuleList([kind(channels, heads, attention) for kind in kinds])

    @property
    def irreps_hidden(self) -> str:
        """Scalars and vectors of one width, e.g. 64x0e+64x1o."""
        c = self.channels
        return f"{c}x0e+{c}x1o" if self.options["vectors"] else f"{c}x0e"

    @property
    def reach(self) -> float:
        """A cutoff per layer, Angstrom."""
        return self.cutoff * len(self.layers)

    def forward(
        self, species: Tensor, i: Tensor, j: Tensor, vector: Tensor, halo: Halo | None = None
    ) -> Tensor:
        """Scalar node features [n_atoms, channels].

        Args:
            species: [n_atoms], index into the embedding.
            i, j: [n_edges], receiver and sender, every pair in both directions.
            vector: [n_edges, 3] from i to j, Angstrom, in the network's dtype.
            halo: see `Network.forward`; messages read their senders' scalars only.
        """
        distance = torch.linalg.vector_norm(vector, dim=-1)
        cut = self.envelope(distance)
        feature = functional.silu(self.radial(self.basis(distance) * cut[:, None]))
        edges = GETEdges(i, j, feature, cut, vector / distance[:, None])
        x, v = self.embedding(species), None
        for number, layer in enumerate(self.layers):
            x, v = layer(exchange(x, halo) if number else x, v, edges)
        return x


class GETEdges(NamedTuple):
    """The edge data of the layers, [n_edges, ...]: receiver, sender, radial feature
    [channels], envelope, unit vector [3] from receiver to sender."""

    i: Tensor
    j: Tensor
    feature: Tensor
    cut: Tensor
    direction: Tensor


class Attention(nn.Module):
    """The part that all layers share: normalisation, queries, keys, values and the edge sums.

    Without attention there are values only.
    """

    n_out: int  # how many blocks of `channels` the output projection has
    vector_message: bool = True
    head_of_channel: Tensor

    def __init__(self, channels: int, heads: int, attention: bool = True) -> None:
        super().__init__()
        self.heads, self.attention = heads, attention
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, (3 if attention else 1) * channels)
        self.out = nn.Linear(channels, self.n_out * channels)
        ones = torch.eye(heads).repeat_interleave(channels // heads, dim=0)  # [channel, head]
        self.register_buffer("head_of_channel", ones, persistent=False)
        for linear in (self.qkv, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def messages(self, x: Tensor, edges: GETEdges) -> tuple[Tensor, Tensor | None]:
        """Scalar messages [n, channels] and vector messages [n, 3, channels].

        m_i = sum_j v_j e_ij silu(q_i . k_j) f(r_ij) per head; M_i = sum_j (v_j e_ij) u_ij, without
        attention.
        """
        n, channels = x.shape
        if self.attention:
            # The published layout keeps q, k and v of one head together.
            qkv = self.qkv(self.norm(x)).view(n, self.heads, 3, channels // self.heads)
            query, key, value = (part.reshape(n, channels) for part in qkv.unbind(2))
            weighted = value.index_select(0, edges.j) * edges.feature
            scalar = weighted * self.attend(query, key, edges)
        else:
            weighted = self.qkv(self.norm(x)).index_select(0, edges.j) * edges.feature
            scalar = weighted
        m = x.new_zeros(n, channels).index_add(0, edges.i, scalar)
        if not self.vector_message:
            return m, None
        outer = edges.direction[:, :, None] * weighted[:, None, :]  # [edge, xyz, channel]
        return m, x.new_zeros(n, 3, channels).index_add(0, edges.i, outer)

    def attend(self, query: Tensor, key: Tensor, edges: GETEdges) -> Tensor:
        """silu(q_i . k_j) f(r_ij) of heads, spread over their channels: [n_edges, channels].

        Args:
            query, key: [n, channels].
        """
        product = query.index_select(0, edges.i) * key.index_select(0, edges.j)
        # Sums over a head's few channels, and spreading a head over them, are products with a
        # matrix of ones and zeros: faster on a CPU than strided sums over so few numbers.
        head = self.head_of_channel.to(query.dtype)
        return (functional.silu(product @ head) * edges.cut[:, None]) @ head.T


def of_rows(linear: nn.Linear, v: Tensor) -> Tensor:
    """A linear map of the last of three dimensions as one product of matrices.

    `torch.nn.Linear` makes one product or n of them, as its weight wants a gradient or not, with
    other last digits.
    """
    out: Tensor = linear(v.flatten(0, 1))
    return out.view(*v.shape[:-1], out.shape[1])


class FirstLayer(Attention):
    """x <- x + O(m); V <- M."""

    n_out = 1

    def forward(self, x: Tensor, v: Tensor | None, edges: GETEdges) -> tuple[Tensor, Tensor | None]:
        """New scalars and the first vectors."""
        m, vectors = self.messages(x, edges)
        return x + self.out(m), vectors


class ScalarLayer(FirstLayer):
    """x <- x + O(m), without vectors."""

    vector_message = False


class MiddleLayer(Attention):
    """x <- x + (A.B) o2 + o3; V <- V + C o1 + M, with A, B, C = P V and o = O(m)."""

    n_out = 3

    def __init__(self, channels: int, heads: int, attention: bool = True) -> None:
        super().__init__(channels, heads, attention)
        self.vec = nn.Linear(channels, 3 * channels, bias=False)
        nn.init.xavier_uniform_(self.vec.weight)

    def forward(self, x: Tensor, v: Tensor, edges: GETEdges) -> tuple[Tensor, Tensor | None]:
        """New scalars and vectors."""
        m, vectors = self.messages(x, edges)
        a, b, c = of_rows(self.vec, v).chunk(3, dim=-1)
        o1, o2, o3 = self.out(m).chunk(3, dim=-1)
        x = x + (a * b).sum(1) * o2 + o3
        return x, v + c * o1[:, None, :] + vectors


class LastLayer(Attention):
    """x <- x + (A.B) o2 + o3; the vectors end here."""

    n_out = 2
    vector_message = False

    def __init__(self, channels: int, heads: int, attention: bool = True) -> None:
        super().__init__(channels, heads, attention)
        self.vec = nn.Linear(channels, 2 * channels, bias=False)
        nn.init.xavier_uniform_(self.vec.weight)

    def forward(self, x: Tensor, v: Tensor, edges: GETEdges) -> tuple[Tensor, Tensor | None]:
        """New scalars."""
        m, _ = self.messages(x, edges)
        a, b = of_rows(self.vec, v).chunk(2, dim=-1)
        o2, o3 = self.out(m).chunk(2, dim=-1)
        return x + (a * b).sum(1) * o2 + o3, None
