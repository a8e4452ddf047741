"""One evaluation of GET on the CPU, forward and backward by hand, in numba kernels."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.halo import Halo
from hff_ase.kernels.get.cpu_messages import find_edges, message_kernels
from hff_ase.kernels.get.cpu_nodes import node_kernels
from hff_ase.kernels.get.weights import Weights
from hff_ase.kernels.threads import share
from hff_ase.pairs import Rows

Array = np.ndarray[Any, Any]


class Buffers:
    """Arrays of one shape that outlive an evaluation: fresh memory costs more than what is computed
    in it. They are lent to one evaluation at a time."""

    _KEPT = 2
    _free: ClassVar[list[Buffers]] = []

    def __init__(self, key: tuple[Any, ...]) -> None:
        self.key = key
        self._arrays: dict[str, Array] = {}

    @classmethod
    def lend(cls, *key: Any) -> Buffers:
        """Unused buffers, of the same key if possible."""
        for buffers in list(cls._free):
            if buffers.key == key:
                try:
                    cls._free.remove(buffers)
                except ValueError:  # another thread was faster
                    continue
                return buffers
        return cls(key)

    def give_back(self) -> None:
        """Return buffers for the next evaluation; the oldest unused ones are dropped."""
        self._free.append(self)
        del self._free[: -self._KEPT]

    def get(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An uninitialised array: the first rows of a longer one of this name."""
        kept = self._arrays.get(name)
        if kept is None or kept.shape[0] < shape[0]:
            room = shape[0] + shape[0] // 8 if kept is not None else shape[0]
            kept = self._arrays[name] = np.empty((room, *shape[1:]), dtype)
        return kept if kept.shape[0] == shape[0] else kept[: shape[0]]


class NumbaPass:
    """A network on a batch: `forward` once, then `backward` at most once.

    With a halo, ghosts come with the scalars of their owners into every layer but the first, and
    the gradients of these go back; nothing else is computed for ghosts.

    Class attributes:
        keep: whether the inputs of all layers are kept, for gradients of parameters.
    """

    keep: ClassVar[bool] = False

    def __init__(
        self,
        weights: Weights,
        species: Tensor,
        batch: AtomsBatch,
        rows: Rows,
        halo: Halo | None = None,
    ) -> None:
        self.weights, self.batch, self.halo = weights, batch, halo
        self.n = batch.n_atoms if halo is None else halo.n_atoms
        self.n_own = self.n if halo is None else halo.n_own
        self.species = species.numpy()[: self.n]
        self.dtype = weights.embedding.numpy().dtype
        self.shift, self.start = rows.shift.numpy(), rows.start.numpy()
        # Every training step has another number of atoms, and so has a process after a migration.
        size = -1 if weights.live or halo is not None else self.n
        self.buffers = Buffers.lend(size, weights.channels, len(weights.layers), self.dtype)
        self.table = weights.table.flat.numpy()
        self.spent = False
        self._find_edges(rows)

    def __del__(self) -> None:
        if hasattr(self, "buffers"):
            self.buffers.give_back()

    def _find_edges(self, rows: Rows) -> None:
        batch, table, n_slots = self.batch, self.weights.table, rows.j.shape[0]
        self.count = self._rows("count", dtype=np.int32)
        self.index = self.buffers.get("index", (n_slots, 3), np.int32)
        self.geometry = self.buffers.get("geometry", (n_slots, 7), self.dtype)
        share(
            find_edges,
            self.n,
            batch.positions.detach().numpy(),
            batch.cell.detach().numpy(),
            batch.system.numpy(),
            self.start,
            rows.count.numpy(),
            rows.j.numpy(),
            self.shift,
            self.weights.cutoff,
            table.spacing,
            table.envelope_coefficients.numpy(),
            self.count,
            self.index,
            self.geometry,
        )

    def _rows(self, name: str, *columns: int, dtype: Any = None) -> Array:
        return self.buffers.get(name, (self.n, *columns), dtype or self.dtype)

    def forward(self) -> Tensor:
        """Scalar node features [n_atoms, channels], zero for ghosts."""
        n, own, C, weights = self.n, self.n_own, self.weights.channels, self.weights
        edges = (self.start, self.count, self.index, self.geometry, self.table)
        x, M = self._rows("x", C), self._rows("M", 3 * C)
        features = torch.empty(self.batch.n_atoms, C, dtype=weights.embedding.dtype)
        features[own:] = 0.0
        np.take(weights.embedding.numpy(), self.species, 0, out=x, mode="clip")
        qkv = self._rows("qkv0", 3 * C)
        np.take(weights.first_qkv.numpy(), self.species, 0, out=qkv, mode="clip")
        for k, layer in enumerate(weights.layers):
            w, last = layer.arrays, layer.parts == 2
            if k > 0:
                self._fill_ghosts(x)
                qkv = self._rows(f"qkv{k}", 3 * C)
                kept = self._rows(f"normed{k}", C), self._rows(f"scale{k}")
                project = node_kernels(C, layer.parts).project
                share(project, n, x, w["qkv"], w["qkv_bias"], *kept, qkv)
            # The first vectors are the first messages; the last layer makes none.
            m, V, V_new = self._messages(k), self._vectors(k), M if last else self._vectors(k + 1)
            sums = (m, V_new if k == 0 else M)
            messages = message_kernels(C, weights.heads, not last, True).forward
            share(messages, own, qkv, *edges, *sums)
            o, abc = self._kept(k)
            x_new = features.numpy() if last else x
            nodes = node_kernels(C, layer.parts).forward
            matrices = (w["out"], w["out_bias"], w["vec"])
            share(nodes, own, m, M, x, V, *matrices, o, abc, x_new, V_new)
        return features

    def _fill_ghosts(self, x: Array) -> None:
        """Fill ghosts with their owners' scalars [n_atoms, channels]."""
        if self.halo is not None:
            everything = self.halo.forward(torch.from_numpy(x[: self.n_own]))
            x[self.n_own :] = everything[self.n_own :].numpy()

    def _return_ghosts(self, gradient: Array) -> None:
        """Add the gradients of ghosts to those of their owners."""
        if self.halo is not None:
            gradient[: self.n_own] = self.halo.reverse(torch.from_numpy(gradient)).numpy()
            gradient[self.n_own :] = 0.0

    def _messages(self, k: int) -> Array:
        """Messages of layer k."""
        return self._rows(f"m{k}" if self.keep else "m", self.weights.channels)

    def _vectors(self, k: int) -> Array:
        """Input vectors of layer k (none in the first one)."""
        return self._rows(f"V{k if self.keep else k % 2}", 3 * self.weights.channels)

    def _kept(self, k: int) -> tuple[Array, Array]:
        """o and (A, B, C) of a layer; the backward pass overwrites them with their gradients."""
        parts, C = self.weights.layers[k].parts, self.weights.channels
        n_vectors = 0 if parts == 1 else 3 * parts * C
        return self._rows(f"o{k}", parts * C), self._rows(f"abc{k}", n_vectors)

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of positions [n_atoms, 3] and cell [n_systems, 3, 3], float64, for a gradient
        of the features."""
        if self.spent:
            raise RuntimeError("expected one backward pass through fused kernels, got a second")
        self.spent = True
        n, own, C, weights = self.n, self.n_own, self.weights.channels, self.weights
        d_positions, d_cell = np.zeros((self.batch.n_atoms, 3)), np.zeros((n, 9))
        edges = (self.start, self.count, self.index, self.geometry, self.table)
        grad_x, grad_m = self._rows("x", C), self._rows("m", C)
        grad_V, grad_V_new = self._rows("V0", 3 * C), self._rows("V1", 3 * C)
        grad_qkv, grad_normed = self._rows("M", 3 * C), self._rows("grad_normed", C)
        np.copyto(grad_x, gradient.detach().numpy()[:n])
        for of_ghosts in (grad_x, grad_m, grad_V, grad_V_new):  # nothing is made of their features
            of_ghosts[own:] = 0.0
        for k in reversed(range(len(weights.layers))):
            layer, w = weights.layers[k], weights.layers[k].arrays
            o, abc = self._kept(k)
            nodes = node_kernels(C, layer.parts)
            matrices, qkv = (w["out_T"], w["vec_T"]), self._rows(f"qkv{k}", 3 * C)
            grads = (o, abc, grad_m, grad_V_new)
            share(nodes.backward, own, grad_x, grad_V, *matrices, o, abc, *grads)
            messages = message_kernels(C, weights.heads, layer.parts != 2, k > 0).backward
            results = (1.0 / weights.table.spacing, grad_qkv, d_positions, d_cell)
            share(messages, n, qkv, grad_m, grad_V, *edges, self.shift, *results)
            if k > 0:
                kept = self._rows(f"normed{k}", C), self._rows(f"scale{k}")
                share(nodes.project_backward, n, grad_qkv, w["qkv_T"], *kept, grad_normed, grad_x)
                self._return_ghosts(grad_x)
                grad_V, grad_V_new = grad_V_new, grad_V
        return torch.from_numpy(d_positions), self._per_system(d_cell)

    def _per_system(self, per_atom: Array) -> Tensor:
        n_systems = self.batch.n_systems
        if n_systems == 1:
            return torch.from_numpy(per_atom.sum(0)).view(1, 3, 3)
        return self.batch.system_sum(torch.from_numpy(per_atom)).view(n_systems, 3, 3)
