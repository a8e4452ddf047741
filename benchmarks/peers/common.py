"""What every peer's script shares: its options, the graph of the structures, the clock.

Imports nothing of hff_ase: the scripts run in the peers' own environments.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import read
from torch import Tensor
from vesin import NeighborList

# e3nn 0.4 reads its own file that newer torch takes for a stranger's.
os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

ELEMENTS = ("H", "Li", "C", "N", "O", "F", "P", "S")
NUMBERS = (1, 3, 6, 7, 8, 9, 15, 16)
CUTOFF = 5.0  # Angstrom
BLOCK = 0.25  # s; shorter steps are timed in blocks of several


@dataclass
class Graph:
    """Structures as one batch: pairs within a cutoff, both directions, vector x[j] - x[i] + shift.

    positions [n_atoms, 3] and cell [n_systems, 3, 3] float32; numbers, system [n_atoms] int64;
    i, j [n_edges] int64, sorted by i; cell_shift [n_edges, 3] in lattice vectors; charge
    [n_systems].
    """

    positions: Tensor
    numbers: Tensor
    system: Tensor
    cell: Tensor
    periodic: Tensor
    charge: Tensor
    i: Tensor
    j: Tensor
    cell_shift: Tensor

    @property
    def shift(self) -> Tensor:
        """[n_edges, 3] in Angstrom."""
        return torch.einsum("ea,eab->eb", self.cell_shift, self.cell[self.system[self.i]])

    @property
    def types(self) -> Tensor:
        """Index of each atom's element in `ELEMENTS`."""
        table = torch.full((max(NUMBERS) + 1,), -1)
        table[list(NUMBERS)] = torch.arange(len(NUMBERS))
        return table[self.numbers]

    @property
    def counts(self) -> Tensor:
        """Atoms per system."""
        return torch.bincount(self.system, minlength=len(self.cell))


def graph_of(structures: list[Atoms], cutoff: float) -> Graph:
    """The batch of some structures."""
    rows: list[list[np.ndarray]] = [[], [], []]
    first = 0
    for atoms in structures:
        periodic = bool(atoms.pbc.all())
        box = np.asarray(atoms.cell) if periodic else np.eye(3)
        search = NeighborList(cutoff=cutoff, full_list=True)
        i, j, shift = search.compute(atoms.positions, box, periodic, "ijS")
        order = np.lexsort((j, i))
        rows[0].append(i[order].astype(np.int64) + first)
        rows[1].append(j[order].astype(np.int64) + first)
        rows[2].append(shift[order].astype(np.float32))
        first += len(atoms)
    i, j, shift = (torch.as_tensor(np.concatenate(parts)) for parts in rows)
    counts = [len(atoms) for atoms in structures]
    cells = [np.asarray(a.cell) if a.pbc.all() else np.eye(3) for a in structures]
    positions = np.concatenate([atoms.positions for atoms in structures])
    charges = [atoms.info.get("charge", 0.0) for atoms in structures]
    return Graph(
        positions=torch.as_tensor(positions, dtype=torch.float32),
        numbers=torch.as_tensor(np.concatenate([a.numbers for a in structures]).astype(np.int64)),
        system=torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)),
        cell=torch.as_tensor(np.stack(cells), dtype=torch.float32),
        periodic=torch.tensor([bool(atoms.pbc.all()) for atoms in structures]),
        charge=torch.tensor(charges, dtype=torch.float32),
        i=i,
        j=j,
        cell_shift=shift,
    )


def options(description: str | None, variants: tuple[str, ...]) -> argparse.ArgumentParser:
    """The options that every peer knows."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("structures", help="all frames of this file are one batch")
    parser.add_argument("--variant", choices=variants, default=variants[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    return parser


def read_all(path: str) -> list[Atoms]:
    """Every frame of a file."""
    frames = read(path, ":")
    return frames if isinstance(frames, list) else [frames]


def timed(step: Callable[[], object], repeats: int) -> list[float]:
    """ms per step of repeated blocks, after two steps that do not count (the second is a guess)."""
    step()
    start = time.perf_counter()
    step()
    calls = min(max(math.ceil(BLOCK / (time.perf_counter() - start)), 1), 100)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            step()
        times.append(1e3 * (time.perf_counter() - start) / calls)
    return times


def report(
    name: str, package: str | None, graph: Graph, model: torch.nn.Module | None, **facts: Any
) -> None:
    """Print one JSON line: what was measured, and its times."""
    parameters = None if model is None else sum(p.numel() for p in model.parameters())
    line = {
        "name": name,
        "package": package,
        "version": None if package is None else version(package),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "allocator_tuned": os.environ.get("MALLOC_MMAP_MAX_") == "0",
        "atoms": len(graph.numbers),
        "systems": len(graph.cell),
        "edges": len(graph.i),
        "parameters": parameters,
        **facts,
    }
    sys.stdout.write("\n" + json.dumps(line) + "\n")
