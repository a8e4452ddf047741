"""What a force call costs: times per step, split by term, memory and yardsticks (``hff bench``)."""

from hff_ase.bench.benchmark import run
from hff_ase.bench.results import AseMD, BenchResult, BlockTimes, LoopTimes, RebuildCount, Row

__all__ = ["AseMD", "BenchResult", "BlockTimes", "LoopTimes", "RebuildCount", "Row", "run"]
