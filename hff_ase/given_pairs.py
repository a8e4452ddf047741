"""Pairs found by a host, such as one with domain decomposition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.neighbor_search import rows_of_pairs
from hff_ase.neighborhood import Planner
from hff_ase.pair_source import PairSource
from hff_ase.pairs import PairIndex, PairRequest, Rows


class GivenPairs(PairSource):
    """Pairs of one batch, for the requests of a potential.

    Args:
        requests, planners: as `PairSource`.
        pairs: of the batch that the source is built for, each once or in both directions.
        reach: Angstrom, up to which the pairs are complete; what exceeds the largest cutoff is the
            skin: the host gives new pairs before atoms have moved by half of it.

    Raises:
        ConfigError: pairs that end before the largest cutoff.
    """

    def __init__(
        self,
        requests: Iterable[PairRequest],
        pairs: PairIndex,
        reach: float,
        planners: Sequence[Planner] = (),
    ) -> None:
        super().__init__(requests, 0.0, planners)
        self.skin = reach - self._farthest
        if self.skin < 0:
            raise ConfigError(
                f"expected pairs up to at least {self._farthest:g} A, got them up to {reach:g} A"
            )
        self._given = pairs

    def _find(self, request: PairRequest, batch: AtomsBatch) -> Rows:
        distance = torch.linalg.vector_norm(self._given.vectors(batch), dim=-1)
        near = self._given.select(distance < request.cutoff + self.skin)
        return rows_of_pairs(near, batch.n_atoms, request.kind == "half")
