"""Labelling many structures over processes and machines, with Dask."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from ase import Atoms

from hff_ase.errors import ConfigError, StructureError
from hff_ase.labels.labeller import Label, Labeller, check_threads, failed, label_key
from hff_ase.labels.store import LabelStore
from hff_ase.workers import as_finished

__all__ = ["label_frames"]

Progress = Callable[[int, int, int], None]  # finished, failed, total


def label_frames(
    frames: Sequence[Atoms],
    labeller: Labeller,
    store: LabelStore | str | Path,
    *,
    workers: int = 1,
    threads: int = 1,
    cluster: str | Path | None = None,
    retry_failed: bool = False,
    lost_limit: int = 3,
    progress: Progress | None = None,
) -> list[Label]:
    """Label structures, each only once: what is in the store is not computed again.

    A structure whose calculation fails gets a label that says why; the others continue. A worker
    that dies (killed, out of memory, its machine gone) loses only what it was computing, which
    another one takes up. Equal structures are computed once.

    Args:
        frames: structures; all are checked before the first is computed.
        labeller: the method.
        store: where finished labels are kept, or its folder.
        workers: processes (or jobs of a cluster); 0 computes in this process, without Dask.
        threads: per worker.
        cluster: a yaml file that says where workers run (see `hff_ase.workers`); None for
            this machine.
        retry_failed: compute again what failed before.
        lost_limit: workers that may die over one structure before it counts as failed.
        progress: called with the numbers of finished, failed and all calculations.

    Returns:
        A label per frame, in order.

    Raises:
        StructureError: a frame that can never be labelled; the message names it.
        ConfigError: broken settings, or Dask is not installed.
    """
    check_threads(threads)
    if workers < 0:
        raise ConfigError(f"expected at least 0 workers, got {workers}")
    store = store if isinstance(store, LabelStore) else LabelStore(store)
    for number, atoms in enumerate(frames):
        try:
            labeller.check(atoms)
        except StructureError as error:
            origin = atoms.info.get("source", atoms.info.get("cut_from"))
            source = "" if origin is None else f" ({origin})"
            raise StructureError(f"frame {number}{source}: {error}") from None
    keys = [label_key(atoms, labeller) for atoms in frames]
    done = {key: label for key in set(keys) if (label := store.read(key)) is not None}
    if retry_failed:
        done = {key: label for key, label in done.items() if label.ok}
    missing = {k: a for k, a in zip(keys, frames, strict=True) if k not in done}
    for key in missing:
        store.path(key).unlink(missing_ok=True)  # damaged, or a failure to be tried again
    n_failed, total = sum(not label.ok for label in done.values()), len(done) + len(missing)
    if progress is not None:
        progress(len(done), n_failed, total)
    run = _compute_here if workers == 0 else _compute_with_dask(workers, cluster, lost_limit)
    for key, label in run(missing, labeller, store, threads):
        done[key] = label
        n_failed += not label.ok
        if progress is not None:
            progress(len(done), n_failed, total)
    return [done[key] for key in keys]


def compute(key: str, atoms: Atoms, labeller: Labeller, folder: str, threads: int) -> str:
    """One calculation, on a worker: whatever happens, a label is in the store when it returns.

    What is there already is not computed again: where a worker dies, Dask hands out all that it
    ever finished once more, because it counts what a worker held as lost.
    """
    store = LabelStore(folder)
    if store.path(key).exists():
        return key
    try:
        label = labeller.label(atoms, threads)
    except Exception as error:  # a quantum code can fail in any way; the others must continue
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        label = failed(f"{type(error).__name__}: {error} ({place})", method=dict(labeller.method))
    store.write(key, label)
    return key


Runner = Callable[[dict[str, Atoms], Labeller, LabelStore, int], Iterator[tuple[str, Label]]]


def _compute_here(
    jobs: dict[str, Atoms], labeller: Labeller, store: LabelStore, threads: int
) -> Iterator[tuple[str, Label]]:
    for key, atoms in jobs.items():
        compute(key, atoms, labeller, str(store.folder), threads)
        yield key, _finished(store, key)


def _compute_with_dask(workers: int, cluster: str | Path | None, lost_limit: int) -> Runner:
    def run(
        jobs: dict[str, Atoms], labeller: Labeller, store: LabelStore, threads: int
    ) -> Iterator[tuple[str, Label]]:
        folder = str(store.folder.resolve())
        # the largest first, so that no worker is left alone with one at the end
        order = sorted(jobs, key=lambda key: -len(jobs[key]))
        asked = {key: (key, jobs[key], labeller, folder, threads) for key in order}
        done = as_finished(
            compute,
            asked,
            name="label",
            workers=workers,
            threads=threads,
            cluster=cluster,
            lost_limit=lost_limit,
        )
        with closing(done):
            for key, reason in done:
                if reason is not None:
                    store.write(key, failed(f"{type(reason).__name__}: {reason}"))
                yield key, _finished(store, key)

    return run


def _finished(store: LabelStore, key: str) -> Label:
    label = store.read(key)
    if label is None:
        raise ConfigError(
            f"expected the label that a worker wrote to {store.path(key)}, got none: does every "
            "machine see this folder?"
        )
    return label
