"""Jobs on Dask's workers, on this machine or on a cluster that a yaml file describes.

The file's ``kind`` is a class of dask-jobqueue (SLURMCluster, PBSCluster, SGECluster ...), the
other keys are its arguments, for example::

    kind: SLURMCluster
    queue: normal
    account: chem
    cores: 8
    memory: 32GB
    walltime: "24:00:00"

With ``address: tcp://host:port`` instead, a scheduler that is running already is used.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hff_ase.errors import ConfigError

# what libraries read their number of threads from when a worker starts
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def dask_client(
    workers: int, threads: int, cluster: str | Path | None, lost_limit: int
) -> Iterator[Any]:
    """A Dask client with ``workers`` processes of ``threads`` threads each; closed afterwards.

    Raises:
        ConfigError: Dask is missing, or the cluster's file cannot be used.
    """
    if find_spec("distributed") is None:
        raise ConfigError("expected Dask for worker processes: pip install 'hff-ase[cluster]'")
    settings = None if cluster is None else read_cluster(cluster)
    import dask
    from distributed import Client

    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # a lost worker is dealt with; pages of log say no more
    with (
        _environment(threads),
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": lost_limit,
                # a worker takes one structure at a time and only when it is free: what dies with
                # a worker is that one, and only that one is counted as lost
                "distributed.scheduler.worker-saturation": 1.0,
            }
        ),
    ):
        address = None if settings is None else settings.get("address")
        started = None if address else _start(workers, threads, settings)
        try:
            with Client(address or started, set_as_default=False) as client:
                yield client
        finally:
            if started is not None:
                started.close()
            logger.setLevel(level)


def as_finished(
    function: Callable[..., Any],
    jobs: Mapping[str, Sequence[Any]],
    *,
    name: str,
    workers: int,
    threads: int,
    cluster: str | Path | None = None,
    lost_limit: int = 3,
) -> Generator[tuple[str, BaseException | None], None, None]:
    """Call a function for every job on Dask's workers, and say which is finished.

    A worker that dies (killed, out of memory, its machine gone) loses only what it was computing,
    which another one takes up. Where a worker dies, Dask also hands out once more what it finished
    before: the function leaves its result where every machine sees it, and returns at once where
    one is there.

    Args:
        function: of the arguments of a job; sent to workers, so picklable.
        jobs: key -> arguments, in the order in which they are begun.
        name: of the kind of jobs.
        workers: processes, or jobs of a cluster.
        threads: per worker.
        cluster: a yaml file (see this module); None for this machine.
        lost_limit: workers that may die over one job before it counts as failed.

    Yields:
        A key, and what its job raised, or the error of workers that died over it; None if it came
        to an end.

    Raises:
        ConfigError: Dask is missing, or the cluster's file cannot be used.
    """
    if not jobs:
        return  # no workers are started for nothing
    with dask_client(min(workers, len(jobs)), threads, cluster, lost_limit) as client:
        from distributed import as_completed

        futures = {
            client.submit(function, *arguments, key=f"{name}-{key}"): key
            for key, arguments in jobs.items()
        }
        try:
            for future in as_completed(futures, loop=client.loop):
                failure = None if future.status == "finished" else future.exception()
                yield futures[future], failure
        finally:
            for future in futures:
                if not future.done():
                    future.cancel()


def _start(workers: int, threads: int, settings: dict[str, Any] | None) -> Any:
    if settings is None:
        from distributed import LocalCluster

        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,  # of Dask; the calculation has its own
            processes=True,
            memory_limit=0,  # the methods bound themselves; Dask would kill at 95 %
            dashboard_address=None,
        )
    import dask_jobqueue

    options = dict(settings)
    kind = getattr(dask_jobqueue, options.pop("kind"))
    options["job_script_prologue"] = [
        *(f"export {name}={threads}" for name in THREADS),
        *options.get("job_script_prologue", []),
    ]
    options.setdefault("cores", threads)
    options.setdefault("processes", 1)
    options["worker_extra_args"] = ["--nthreads", "1", *options.get("worker_extra_args", [])]
    try:
        cluster = kind(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"expected options of {kind.__name__}, got: {error}") from error
    cluster.scale(workers)
    return cluster


def read_cluster(path: str | Path) -> dict[str, Any]:
    """The description of a cluster from a yaml file.

    Raises:
        ConfigError: no file, no yaml, or neither an address nor a kind that dask-jobqueue knows.
    """
    import yaml

    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"expected a yaml file for the cluster, got {path}: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"expected keys and values in {path}, got {type(settings).__name__}")
    if "address" in settings:
        if set(settings) != {"address"}:
            raise ConfigError(f"expected nothing beside the address in {path}")
        return settings
    if find_spec("dask_jobqueue") is None:
        raise ConfigError("expected dask-jobqueue for a cluster: pip install 'hff-ase[cluster]'")
    import dask_jobqueue

    known = sorted(name for name in dir(dask_jobqueue) if name.endswith("Cluster"))
    if settings.get("kind") not in known:
        raise ConfigError(
            f"expected kind in {path} among {', '.join(known)}, got {settings.get('kind')!r}"
        )
    return settings


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set the numbers of threads for processes started meanwhile, over whatever was set."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
