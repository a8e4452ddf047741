"""The small multilayer perceptron that heads are made of."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of the given sizes with silu between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
