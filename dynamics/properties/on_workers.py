"""State points of ``hff properties`` on the workers of this machine or of a cluster."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from hff_ase.dynamics.properties.analysis import Analysis
from hff_ase.dynamics.properties.property_run import PropertyRun
from hff_ase.errors import SimulationError
from hff_ase.workers import as_finished


def run_on_workers(
    run: PropertyRun, workers: int = 1, threads: int = 1, cluster: str | Path | None = None
) -> Analysis:
    """Run every state point to its end, several at a time; analyse and write the page.

    A point is continued where it stands: the stages that it has finished are read, a stage that was
    begun goes on at its last checkpoint. A worker that dies loses what its stage did since then;
    another worker continues it. The page grows with every point that ends.

    Args:
        run: started or resumed.
        workers: processes, or jobs of the cluster, each with one state point at a time.
        threads: of each.
        cluster: a yaml file (`hff_ase.workers`); None for this machine.

    Returns:
        The analysis of all state points.

    Raises:
        ConfigError: no Dask, or a cluster that cannot be used.
        SimulationError: points that failed, after the others came to their end.
    """
    points, hours = run.request.points, run.request.hours
    if hours is not None:  # a worker takes so many points one after another
        hours /= -(-len(points) // workers)
    jobs = {point.name: (str(run.folder.resolve()), point.name, hours) for point in points}
    finished, failures, found = [], {}, None
    for name, failure in as_finished(
        run_point, jobs, name=str(run.folder.resolve()), workers=workers, threads=threads,
        cluster=cluster,
    ):  # fmt: skip
        if failure is None:
            finished.append(name)
            found = run.analyse([point for point in points if point.name in finished])
        else:
            failures[name] = f"{type(failure).__name__}: {failure}"
        run.say(f"{len(finished)} of {len(points)} state points finished, {len(failures)} failed")
    if failures or found is None:
        name, reason = next(iter(failures.items()))
        raise SimulationError(
            f"{len(failures)} of {len(points)} state points failed, the first {name}: {reason}; "
            f"repeat them with hff properties --resume {run.folder}"
        )
    return found


def run_point(folder: str, name: str, hours: float | None) -> None:
    """Run one state point of the request in a folder to its end, on a worker.

    Args:
        folder: of the request.
        name: of the state point.
        hours: for it; None where lengths are given.

    Raises:
        HFFError: as its stages.
    """
    run = PropertyRun.resume(folder, console=Console(quiet=True))
    (point,) = (one for one in run.request.points if one.name == name)
    run.advance(point, hours)
