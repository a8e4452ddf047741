"""The verdict on replicas of one state, from what is in their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hff_ase.dynamics.equilibration.shells import Record
from hff_ase.dynamics.equilibration.verdict import DENSITY, POTENTIAL, SHELL, Verdict, judge
from hff_ase.dynamics.replicas.reporter import replica_folder
from hff_ase.dynamics.reporters.run_folder import STATISTICS, RunFolder
from hff_ase.dynamics.reporters.statistics import read_statistics


def judge_replicas(
    folder: RunFolder,
    replicas: Sequence[int],
    records: Mapping[str, Record],
    first_stage: int,
    interval: float,
    least: float,
) -> Verdict:
    """Judge replicas since a stage began.

    Args:
        folder: of the run, its files up to date.
        replicas: of one state.
        records: of the shells, by replica; of those that have cations.
        first_stage: of constant pressure, counted from 1.
        interval: between rows of statistics, ps.
        least: how long a settled stretch must be, ps.
    """
    series: dict[str, list[np.ndarray]] = {}
    packed = 0.0
    for replica in replicas:
        rows = read_statistics(replica_folder(folder, replica)[STATISTICS])
        inside = rows["stage"] >= first_stage
        for quantity in (DENSITY, POTENTIAL):
            series.setdefault(quantity, []).append(rows[quantity][inside])
        record = records.get(str(replica))
        if record is not None:
            packed = max([packed, *record["kept"][-1:]])
            for kind, counts in record["counts"].items():
                series.setdefault(SHELL + kind, []).append(np.array(counts))
    return judge(series, interval, packed, least)
