"""Several processes that train one model, as torchrun starts them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from hff_ase.errors import ConfigError


@dataclass(frozen=True)
class Processes:
    """The group of processes that this one belongs to; alone by default."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and shows things."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def sum_all(self, tensors: Sequence[Tensor], extra: Sequence[float] = ()) -> list[float]:
        """Sum many tensors in place, and a few numbers, in one message; the numbers' sums.

        Gradients travel in float64: their sum then hardly depends on the number of processes.
        """
        if self.count == 1:
            return list(extra)
        numbers = torch.tensor(list(extra), dtype=torch.float64, device=tensors[0].device)
        flat = torch.cat([*(t.reshape(-1).double() for t in tensors), numbers])
        dist.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()
        return [float(value) for value in flat[start:].tolist()]

    def same_everywhere(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def device_of_process(name: str) -> torch.device:
    """The device of this process: "cuda" is one GPU for each process of a machine.

    Raises:
        ConfigError: no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"expected a device 'cpu' or 'cuda', got {name!r}") from None
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"expected a CUDA device {local} for device={name!r}, got a machine with "
                f"{torch.cuda.device_count()}"
            )
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
    return device


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """The group that torchrun set up, joined for as long as the context lasts."""
    if dist.is_initialized():  # the caller has joined it
        yield Processes(dist.get_rank(), dist.get_world_size())
        return
    if not under_torchrun() or int(os.environ["WORLD_SIZE"]) == 1:
        yield Processes()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
