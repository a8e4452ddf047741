"""The optimizer and averaged weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.training.config import OptimizerSection
from hff_ase.training.loop.foreach import copy_all
from hff_ase.training.loop.soap import Soap


def trainable(potential: nn.Module) -> list[Tensor]:
    """The parameters that are trained.

    Raises:
        ConfigError: there are none.
    """
    found: list[Tensor] = [p for p in potential.parameters() if p.requires_grad]
    if not found:
        raise ConfigError("expected parameters to train, got a potential without (all frozen?)")
    return found


def make_optimizer(potential: nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """Adam, AdamW, AdaMax or SOAP.

    Matrices decay; biases and what belongs to an element do not.
    """
    parameters = trainable(potential)
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": section.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    betas, eps = section.betas, section.epsilon
    if section.kind == "soap":
        return Soap(groups, lr=section.learning_rate, betas=betas, eps=eps)
    if section.kind == "adamax":
        return torch.optim.Adamax(
            groups, lr=section.learning_rate, betas=betas, eps=eps, foreach=True
        )
    kind = torch.optim.Adam if section.kind == "adam" else torch.optim.AdamW
    # One kernel for the whole update where torch has it for the device.
    fused = parameters[0].device.type in ("cpu", "cuda")
    return kind(
        groups,
        lr=section.learning_rate,
        betas=betas,
        eps=eps,
        amsgrad=section.amsgrad,
        fused=fused,
    )


class Average:
    """An exponential average of a potential's weights; ``model`` has them.

    torch's own AveragedModel looks through all modules at every step, which costs as much as the
    optimizer; here only its update is used.
    """

    def __init__(self, potential: HybridPotential, decay: float) -> None:
        self.model = copy.deepcopy(potential).requires_grad_(False)
        self.n_averaged = 0
        self._update = get_ema_multi_avg_fn(decay)
        pairs = zip(potential.parameters(), self.model.parameters(), strict=True)
        self._pairs = [(live, mean) for live, mean in pairs if live.requires_grad]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the present weights (the first time: copy them)."""
        by_dtype: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for live, mean in self._pairs:
            means, lives = by_dtype.setdefault(live.dtype, ([], []))
            means.append(mean)
            lives.append(live)
        for means, lives in by_dtype.values():
            if self.n_averaged == 0:
                copy_all(means, lives)
            else:
                self._update(means, lives, self.n_averaged)
        self.n_averaged += 1
