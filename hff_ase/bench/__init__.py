"""What a force call costs: times per step, split by term, memory and yardsticks (``hff bench``)."""

from hff_ase.bench.results import AseMD, BenchResult, LoopTimes, RebuildCount, Row, Spread
from hff_ase.bench.run import run

__all__ = ["AseMD", "BenchResult", "LoopTimes", "RebuildCount", "Row", "Spread", "run"]
