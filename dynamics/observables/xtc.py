"""Whether an XTC file is whole: readers stop at a damaged frame silently.

The layout of a frame is GROMACS's (xdrfile library, BSD): header and cell of 52 bytes, the number
of atoms again, then either plain coordinates (nine atoms or fewer) or precision, ranges, the number
of bytes and as many bytes, filled up to four. Numbers are big-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path

from hff_ase.errors import SimulationError

MAGIC, MAGIC_LARGE = 1995, 2023  # the latter for more than 3e8 atoms: the count has eight bytes
PLAIN = 9  # atoms, up to which coordinates are not compressed


def check_xtc(path: Path, n_frames: int | None = None) -> int:
    """Number of whole frames at the beginning of an XTC file.

    Args:
        path: the file.
        n_frames: how many have to be whole; None: all of the file.

    Raises:
        SimulationError: it ends, or is damaged, within a frame that has to be whole.
    """
    size, count, start = path.stat().st_size, 0, 0
    with open(path, "rb") as file:
        while start < size and (n_frames is None or count < n_frames):
            file.seek(start)
            end = _end_of_frame(file.read(100), start)
            if end is None or end > size:
                raise SimulationError(
                    f"expected a whole trajectory in {path.name}, got one that is truncated or "
                    f"damaged after {count} frames (stop={count} reads those)"
                )
            start, count = end, count + 1
    return count


def _end_of_frame(head: bytes, start: int) -> int | None:
    """Where the frame with these first bytes ends; None where they are no frame's."""
    if len(head) < 56:
        return None
    magic, n_atoms = struct.unpack(">ii", head[:8])
    (again,) = struct.unpack(">i", head[52:56])
    if magic not in (MAGIC, MAGIC_LARGE) or n_atoms != again or n_atoms < 0:
        return None
    if n_atoms <= PLAIN:
        return start + 56 + 12 * n_atoms
    width, form = (4, ">i") if magic == MAGIC else (8, ">q")
    if len(head) < 88 + width:
        return None
    (n_bytes,) = struct.unpack(form, head[88 : 88 + width])
    return start + 88 + width + (n_bytes + 3) // 4 * 4 if n_bytes >= 0 else None
