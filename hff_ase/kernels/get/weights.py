"""GET's parameters in the layout of the fused network, recomputed when a parameter changes.

In training they are made once per step, as differentiable functions of the parameters: the kernels
give gradients of what they read, autograd carries those on to the parameters.

Queries, keys, values, messages and vectors are stored head-fastest: channel c' = d * heads + h
instead of the published h * (channels / heads) + d, so that the sum over the channels of every head
is a sum of whole rows. Scalars keep the published order. The weight and bias of a normalisation go
into the projection that follows it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hff_ase.kept import Kept
from hff_ase.kernels.get.table import RadialTable, live_table, tabulate
from hff_ase.nets.get import GET, Attention, LastLayer, MiddleLayer

_NAMES = ("qkv", "qkv_bias", "out", "out_bias", "vec")


@dataclass(frozen=True)
class LayerWeights:
    """One layer, all matrices as [in, out].

    Attributes:
        parts: blocks of the output projection: 1 in the first layer, 3 in a middle one, 2 in the
            last.
        qkv, qkv_bias: [channels, 3 channels], [1, 3 channels]: query, key, value.
        out, out_bias: [channels, parts channels], [1, parts channels].
        vec: [channels, parts channels]; empty in the first layer.
    """

    parts: int
    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    out_bias: Tensor
    vec: Tensor

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The same for numba, with the transposed matrices that the backward pass needs."""
        names = ("qkv", "out", "vec")
        straight = {name: getattr(self, name) for name in (*names, "qkv_bias", "out_bias")}
        turned = {f"{name}_T": getattr(self, name).T.contiguous() for name in names}
        return {name: value.numpy() for name, value in {**straight, **turned}.items()}

    def detached(self) -> LayerWeights:
        """The same without a graph."""
        return LayerWeights(self.parts, *(getattr(self, name).detach() for name in _NAMES))


@dataclass(frozen=True)
class Weights:
    """A whole network.

    Attributes:
        embedding: [n_species, channels].
        first_qkv: [n_species, 3 channels], what the first layer makes of it: atoms know nothing of
            each other yet.
        table: radial features.
        live: the same tensors with their graph, where there is one: embedding, first_qkv,
            coefficients of the table, then those of every layer. Everything else is detached.
    """

    channels: int
    heads: int
    cutoff: float
    embedding: Tensor
    first_qkv: Tensor
    layers: tuple[LayerWeights, ...]
    table: RadialTable
    live: tuple[Tensor, ...] = ()


def fused_weights(net: GET) -> Weights:
    """The weights of a network, recomputed if a parameter has changed since the last call."""
    return _KEPT.of(net, lambda: make_weights(net))


@torch.no_grad()
def make_weights(net: GET) -> Weights:
    """The weights of the fused network, computed in float64, stored in its precision."""
    dtype, heads = net.embedding.weight.dtype, net.options["heads"]
    modules = [layer for layer in net.layers if isinstance(layer, Attention)]
    layers = [_layer(layer, net.channels, heads, torch.float64) for layer in modules]
    x = net.embedding.weight.double()
    normed = torch.nn.functional.layer_norm(x, (net.channels,), eps=modules[0].norm.eps)
    first_qkv = normed @ layers[0].qkv + layers[0].qkv_bias
    return Weights(
        channels=net.channels,
        heads=heads,
        cutoff=net.cutoff,
        embedding=net.embedding.weight.detach().clone(),
        first_qkv=first_qkv.to(dtype),
        layers=tuple(_cast(layer, dtype) for layer in layers),
        table=tabulate(net),
    )


_KEPT: Kept[Weights] = Kept()


def live_weights(net: GET, n_intervals: int) -> Weights:
    """The weights of one training step, differentiable in the parameters (`Weights.live`).

    Args:
        n_intervals: of the radial table; there is no time to refine it at every step.
    """
    heads = net.options["heads"]
    modules = [layer for layer in net.layers if isinstance(layer, Attention)]
    layers = [_cast(_layer(m, net.channels, heads, m.qkv.weight.dtype)) for m in modules]
    x = net.embedding.weight
    normed = torch.nn.functional.layer_norm(x, (net.channels,), eps=modules[0].norm.eps)
    first_qkv = normed @ layers[0].qkv + layers[0].qkv_bias
    table = live_table(net, n_intervals)
    live = [x, first_qkv, table.coefficients]
    for layer in layers:
        live += [getattr(layer, name) for name in _NAMES]
    return Weights(
        channels=net.channels,
        heads=heads,
        cutoff=net.cutoff,
        embedding=x.detach().contiguous(),
        first_qkv=first_qkv.detach(),
        layers=tuple(layer.detached() for layer in layers),
        table=replace(table, coefficients=table.coefficients.detach()),
        live=tuple(live),
    )


def _layer(layer: Attention, channels: int, heads: int, dtype: torch.dtype) -> LayerWeights:
    parts = layer.n_out
    # [head, part, d, in] -> [part, d, head, in]
    qkv = layer.qkv.weight.to(dtype).view(heads, 3, -1, channels).permute(1, 2, 0, 3)
    bias = layer.qkv.bias.to(dtype).view(heads, 3, -1).permute(1, 2, 0).reshape(-1)
    qkv = qkv.reshape(3 * channels, channels)
    bias = bias + qkv @ layer.norm.bias.to(dtype)
    qkv = qkv * layer.norm.weight.to(dtype)

    out = _inputs(layer.out.weight.to(dtype), heads).view(parts, channels, channels)
    out_bias = layer.out.bias.to(dtype).view(parts, channels)
    vec = out.new_zeros(0, channels, channels)
    if isinstance(layer, MiddleLayer | LastLayer):
        vec = _inputs(layer.vec.weight.to(dtype), heads).view(parts, channels, channels)
    if parts == 3:  # o1 and C meet the vectors
        out = torch.cat([_rows(out[0], heads)[None], out[1:]])
        out_bias = torch.cat([_rows(out_bias[0][:, None], heads).T, out_bias[1:]])
        vec = torch.cat([vec[:2], _rows(vec[2], heads)[None]])
    return LayerWeights(
        parts=parts,
        qkv=qkv.T,
        qkv_bias=bias[None],
        out=out.reshape(-1, channels).T,
        out_bias=out_bias.reshape(1, -1),
        vec=vec.reshape(-1, channels).T,
    )


def _inputs(weight: Tensor, heads: int) -> Tensor:
    """A matrix [out, in] with its inputs head-fastest."""
    return weight.view(len(weight), heads, -1).transpose(1, 2).reshape(weight.shape)


def _rows(weight: Tensor, heads: int) -> Tensor:
    """A matrix [channels, n] with its rows head-fastest."""
    return weight.view(heads, -1, weight.shape[1]).transpose(0, 1).reshape(weight.shape)


def _cast(layer: LayerWeights, dtype: torch.dtype | None = None) -> LayerWeights:
    """Contiguous, in another precision (None: as they are)."""
    return LayerWeights(
        layer.parts,
        *(getattr(layer, name).to(dtype or layer.qkv.dtype).contiguous() for name in _NAMES),
    )
