"""Low-rank updates of linear layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.training.adapt.freeze import matching


class LowRank(nn.Module):
    """A matrix W + (alpha/rank) B A, of which only A and B are trained, and B is zero at first.

    (Hu et al., ICLR 2022.)

    Args:
        matrix: W.
        rank: rows of A, columns of B.
        alpha: weight of the update.
    """

    def __init__(self, matrix: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        n_rows, n_columns = matrix.shape
        # A higher rank is no longer low; the weight of the update stays alpha over what was asked.
        self.scale, rank = alpha / rank, min(rank, n_rows, n_columns)
        self.weight_before = nn.Parameter(matrix.detach(), requires_grad=False)
        self.lora_down = nn.Parameter(matrix.new_empty(rank, n_columns))
        self.lora_up = nn.Parameter(matrix.new_zeros(n_rows, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def sum(self) -> Tensor:
        """The effective matrix."""
        return self.weight_before + self.scale * (self.lora_up @ self.lora_down)


class LoRALinear(nn.Linear):
    """A linear layer with a low-rank update.

    Whatever reads ``weight``, such as the fused kernels, sees the effective matrix; its gradient
    reaches the update through it.

    Args:
        linear: the layer, whose parameters are taken over.
        rank, alpha: as `LowRank`.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)  # not Linear's: weight is no parameter here
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.matrix = LowRank(linear.weight, rank, alpha)
        self.register_parameter("bias", linear.bias)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The effective weight [out_features, in_features]."""
        return self.matrix.sum()

    def forward(self, input: Tensor) -> Tensor:
        """As the layer with the effective weight."""
        return functional.linear(input, self.weight, self.bias)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer that does the same."""
        weight = self.weight
        linear = nn.Linear(
            self.in_features,
            self.out_features,
            bias=self.bias is not None,
            device=weight.device,
            dtype=weight.dtype,
        )
        linear.weight.copy_(weight)
        if self.bias is not None:
            linear.bias.copy_(self.bias)
        return linear.requires_grad_(False)


class LoRAMatrices(nn.Module):
    """A list of matrices (those of E3Net's linear maps, one per degree) with low-rank updates.

    Args:
        matrices: the list, taken over.
        rank, alpha: as `LowRank`.
    """

    def __init__(self, matrices: nn.ParameterList, rank: int, alpha: float) -> None:
        super().__init__()
        self.matrices = nn.ModuleList([LowRank(matrix, rank, alpha) for matrix in matrices])

    def _effective(self) -> list[Tensor]:
        return [m.sum() for m in self.matrices if isinstance(m, LowRank)]

    def __len__(self) -> int:
        return len(self.matrices)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._effective())

    def __getitem__(self, index: int | slice) -> Any:
        return self._effective()[index]

    @torch.no_grad()
    def merged(self) -> nn.ParameterList:
        """A plain list of the effective matrices."""
        return nn.ParameterList([nn.Parameter(m, requires_grad=False) for m in self._effective()])


def add_lora(
    potential: HybridPotential, rank: int, alpha: float | None, patterns: Sequence[str]
) -> list[str]:
    """Give linear layers low-rank updates, in place.

    Returns:
        The names of these layers.

    Raises:
        ConfigError: a pattern that matches no linear layer.
    """
    layers = {name: m for name, m in potential.named_modules() if _is_linear(m)}
    if not layers:
        raise ConfigError("expected a model with linear layers for lora, got none")
    names = sorted({n for pattern in patterns for n in matching(pattern, list(layers), "layer")})
    for name in names:
        layer = layers[name]
        kind: Any = LoRALinear if isinstance(layer, nn.Linear) else LoRAMatrices
        _replace(potential, name, kind(layer, rank, alpha or float(rank)))
    return names


def _is_linear(module: nn.Module) -> bool:
    """Whether a module is a plain linear layer, or a list of matrices that serve as such."""
    if isinstance(module, nn.ParameterList):
        return len(module) > 0 and all(matrix.ndim == 2 for matrix in module)
    return type(module) is nn.Linear


def merge(potential: HybridPotential) -> HybridPotential:
    """A copy with every low-rank update folded into its weight: plain layers again."""
    potential = copy.deepcopy(potential)
    for name, module in list(potential.named_modules()):
        if isinstance(module, (LoRALinear, LoRAMatrices)):
            _replace(potential, name, module.merged())
    return potential


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
