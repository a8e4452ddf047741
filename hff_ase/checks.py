"""What an evaluation is refused for: overlapping nuclei, results that are not finite, too little
memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError
from hff_ase.pair_source import PairSource
from hff_ase.passes import Evaluation

OVERLAP = 0.2  # Angstrom: two nuclei this close are a broken structure, not a configuration


@contextmanager
def refusing_what_is_too_large(batch: AtomsBatch) -> Iterator[None]:
    """Turn the various out-of-memory errors into one of ours.

    Raises:
        StructureError: memory ran out; says for what.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = any(text in str(error).lower() for text in ("out of memory", "allocate memory"))
        if not (known or isinstance(error, MemoryError)):
            raise
        volume = float(batch.volume.max())
        box = f" in a box of {volume:.3g} A^3" if batch.any_periodic else ""
        raise StructureError(
            f"expected structures that fit into memory, got {batch.n_atoms} atoms{box}"
        ) from None


def check_overlap(neighbors: PairSource, batch: AtomsBatch) -> None:
    """Refuse nuclei that overlapped at the last neighbour search.

    Raises:
        StructureError: names the closest pair.
    """
    if neighbors.closest is not None and neighbors.closest[0] < OVERLAP:
        distance, i, j = neighbors.closest
        first = int(batch.index_in_system[i])
        raise StructureError(
            f"expected atoms at least {OVERLAP} A apart, got atoms {first} and {batch.place(j)} "
            f"at {distance:.3f} A"
        )


def check_finite(result: Evaluation, batch: AtomsBatch) -> None:
    """Refuse results that are not finite.

    Raises:
        StructureError: names the first atom.
    """
    if result.forces is None:
        return
    finite = torch.isfinite(result.energies) & torch.isfinite(result.forces).all(-1)
    if result.stress is not None:
        finite &= torch.isfinite(result.stress).all(-1).all(-1)[batch.system]
    if not bool(finite.all()):
        atom = int(torch.nonzero(~finite)[0, 0])
        raise StructureError(
            "expected a finite energy and finite forces, got none for atom "
            f"{batch.place(atom)}: atoms overlap or the structure is broken"
        )
