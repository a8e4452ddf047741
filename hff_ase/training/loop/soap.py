"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., arXiv:2409.11321).

For a matrix with gradients G, L and R are running means of G G^T and G^T G, with eigenvectors Q_L
and Q_R. Adam runs on Q_L^T G Q_R: where the gradient's components are as uncorrelated as they get,
its division by their size comes close to a Newton step. The eigenvectors follow by one step of
power iteration and a QR factorisation now and then.

Large matrices are cut into blocks, and blocks of one shape are worked on together: a network has
tens of small matrices, whose single products cost less than the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
from torch import Tensor

from hff_ase.training.loop.foreach import add_all, scale_all

EMPTY = torch.empty(0)


@dataclass
class Stack:
    """k blocks of one shape [m, n], and their optimizer state.

    Attributes:
        mean, square: Adam's moments in the eigenbasis, [k, m, n].
        left, right: running means of G G^T [k, m, m] and G^T G [k, n, n].
        left_basis, right_basis: their eigenvectors, in columns.
    """

    mean: Tensor = field(default_factory=lambda: EMPTY)
    square: Tensor = field(default_factory=lambda: EMPTY)
    left: Tensor = field(default_factory=lambda: EMPTY)
    right: Tensor = field(default_factory=lambda: EMPTY)
    left_basis: Tensor = field(default_factory=lambda: EMPTY)
    right_basis: Tensor = field(default_factory=lambda: EMPTY)

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


class Soap(torch.optim.Optimizer):
    """Adam in the eigenbasis of the gradients' second moments; vectors get plain Adam.

    Args:
        params: parameters or groups of them, as for any optimizer of torch. What has more than two
            dimensions is a stack of matrices over the last two.
        lr: step size. betas: decay of the first moment, and of all second moments.
        weight_decay: decoupled, as in AdamW.
        interval: steps between two updates of the eigenvectors.
        block: the most rows and columns of a block.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        interval: int = 10,
        block: int = 64,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.betas, self.eps, self.interval, self.block = betas, eps, interval, block
        self._taken = 0
        self._stacks: dict[str, Stack] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._taken += 1
        for number, group in enumerate(self.param_groups):
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["weight_decay"]:
                scale_all(parameters, 1.0 - group["lr"] * group["weight_decay"])
            for shape, blocks in self._by_shape(parameters).items():
                change = self._change(f"{number}:{shape}", torch.stack([g for _, g in blocks]))
                targets = [block for block, _ in blocks]
                add_all(targets, list(change.unbind(0)), alpha=-group["lr"])
        return loss

    def _cut(self, tensor: Tensor) -> list[Tensor]:
        """Views of a parameter (or its gradient) as blocks; vectors whole."""
        if tensor.dim() < 2:
            return [tensor]
        matrices = tensor.flatten(0, -3).unbind(0) if tensor.dim() > 2 else [tensor]
        return list(self._blocks(matrices))

    def _blocks(self, matrices: Sequence[Tensor]) -> Iterator[Tensor]:
        for matrix in matrices:
            n_rows, n_columns = (-(-size // self.block) for size in matrix.shape)
            for rows in matrix.tensor_split(n_rows, 0):
                yield from rows.tensor_split(n_columns, 1)

    def _by_shape(self, parameters: Sequence[Tensor]) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """Blocks of all parameters with their gradients; those of one shape go together."""
        found: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for parameter in parameters:
            gradients = self._cut(cast(Tensor, parameter.grad))
            for block, gradient in zip(self._cut(parameter.data), gradients, strict=True):
                name = "x".join(str(size) for size in block.shape) + f" {block.dtype}"
                found.setdefault(name, []).append((block, gradient))
        return found

    def _change(self, name: str, gradient: Tensor) -> Tensor:
        """The direction for a stack of gradients, of Adam's size."""
        beta1, beta2 = self.betas
        stack = self._stacks.get(name)
        matrices = gradient.dim() == 3
        if stack is None:
            stack = self._stacks[name] = first_stack(gradient)
        rotated = stack.left_basis.mT @ gradient @ stack.right_basis if matrices else gradient
        stack.mean.lerp_(rotated, 1.0 - beta1)
        stack.square.mul_(beta2).addcmul_(rotated, rotated, value=1.0 - beta2)
        size = (stack.square / (1.0 - beta2**self._taken)).sqrt_().add_(self.eps)
        change = stack.mean / size / (1.0 - beta1**self._taken)
        if matrices:
            change = stack.left_basis @ change @ stack.right_basis.mT
            stack.left.lerp_(gradient @ gradient.mT, 1.0 - beta2)
            stack.right.lerp_(gradient.mT @ gradient, 1.0 - beta2)
            if self._taken % self.interval == 0:
                turn(stack)
        return change

    def state_dict(self) -> dict[str, Any]:
        """The state that the next step depends on."""
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]
        stacks = {name: stack.tensors() for name, stack in self._stacks.items()}
        return {"groups": groups, "taken": self._taken, "stacks": stacks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state of `state_dict`, for the same parameters in the same order."""
        for group, saved in zip(self.param_groups, state_dict["groups"], strict=True):
            group.update(saved)
        self._taken = state_dict["taken"]
        self._stacks = {
            name: Stack(**{k: v.clone() for k, v in tensors.items()})
            for name, tensors in state_dict["stacks"].items()
        }


def first_stack(gradient: Tensor) -> Stack:
    """A stack whose bases fit the first gradients."""
    stack = Stack(mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
    if gradient.dim() == 3:
        stack.left, stack.right = gradient @ gradient.mT, gradient.mT @ gradient
        stack.left_basis, stack.right_basis = eigenvectors(stack.left), eigenvectors(stack.right)
    return stack


def eigenvectors(matrix: Tensor) -> Tensor:
    """Of symmetric matrices [k, n, n], in columns by falling eigenvalue."""
    # float64: in float32 LAPACK gives NaN for some matrices of low rank
    ascending = torch.linalg.eigh(matrix.double()).eigenvectors
    return ascending.flip(-1).to(matrix.dtype).contiguous()


def turn(stack: Stack) -> None:
    """Update the bases to their matrices; the moments are rotated along."""
    left, order = followed(stack.left, stack.left_basis)
    stack.square = stack.square.gather(1, order[:, :, None].expand_as(stack.square))
    right, order = followed(stack.right, stack.right_basis)
    stack.square = stack.square.gather(2, order[:, None, :].expand_as(stack.square))
    stack.mean = (left.mT @ stack.left_basis) @ stack.mean @ (stack.right_basis.mT @ right)
    stack.left_basis, stack.right_basis = left, right


def followed(matrix: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Nearly the eigenvectors of symmetric matrices [k, n, n], from what they were before.

    One step of power iteration and a QR factorisation.

    Returns:
        The new basis, and the order [k, n] in which it takes up the columns of the old one: by
        falling eigenvalue, so that the factorisation is of well-separated columns.
    """
    product = matrix @ basis
    order = (basis * product).sum(-2).argsort(dim=-1, descending=True, stable=True)
    product = product.gather(-1, order[:, None, :].expand_as(product))
    return torch.linalg.qr(product).Q, order
