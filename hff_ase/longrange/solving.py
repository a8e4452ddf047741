"""Unknowns of atoms that are solved for together, with a solver per part of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.parts import Part
from hff_ase.neighborhood import Neighborhood

Solution = tuple[Tensor, Tensor]
"""Atomic energies [n_atoms] in the graph, and the unknowns [n_atoms, ...]."""


class Problem(Protocol):
    """The unknowns of a part's atoms, and three ways to solve for them."""

    @property
    def part(self) -> Part:
        """The part of the batch."""

    def solve_in_graph(self) -> Solution:
        """Dense, the linear system being part of the graph: derivatives of any order."""

    def solve_dense(self) -> Solution:
        """By factors of a matrix."""

    def solve_iteratively(self, guess: Tensor | None, tolerance: float) -> Solution:
        """Without a matrix, from a guess, up to the estimated error of any unknown."""


def solve(
    problems: Sequence[Problem],
    batch: AtomsBatch,
    neighbors: Neighborhood,
    name: str,
    zeros: Tensor,
    *,
    training: bool,
    tolerance: float,
    total: Tensor | None = None,
) -> Solution:
    """Energies [n_atoms] and unknowns of all atoms, with each part's own solver.

    Args:
        problems: one for each part of the batch.
        neighbors: with a memory where a trajectory is followed: iterations then start from what it
            predicts, and what they find is remembered.
        name: of the unknowns in the memory.
        zeros: float64 [n_atoms, ...], of the shape of the unknowns.
        training: whether the linear system is part of the graph.
        tolerance: of iterations, in the unit of the unknowns.
        total: [n_systems], the sum of the unknowns of a system that a guess must have.
    """
    iterative = not all(problem.part.dense for problem in problems)
    memory = neighbors.memory if iterative else None
    history = None if memory is None else memory.history(name)
    guess = None if history is None else history.guess(batch, total)
    energies, unknowns = torch.zeros_like(batch.positions[:, 0]), zeros
    for problem in problems:
        part = problem.part
        if training:
            found = problem.solve_in_graph()
        elif part.dense:
            found = problem.solve_dense()
        else:
            start = None if guess is None else part.of_atoms(guess)
            found = problem.solve_iteratively(start, tolerance)
        energies, unknowns = part.merge(energies, found[0]), part.merge(unknowns, found[1])
    if history is not None:
        history.add(batch, unknowns)
    return energies, unknowns
