"""i-PI's trajectories for other programs: extended xyz with cell, periods and molecules."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from hff_ase.dynamics.pimd.input_xml import PREFIX

STEP = re.compile(r"Step:\s+(\d+)")


def iter_frames(path: Path, start: Atoms) -> Iterator[Atoms]:
    """Frames of a trajectory of i-PI's (xyz, Angstrom) with what its own format does not say.

    Args:
        path: of one bead, or of the centroid.
        start: elements in i-PI's order, periods, and ids of molecules where there are.
    """
    from ipi.utils.io import iter_file_raw

    template = Atoms(start.numbers, cell=start.cell, pbc=start.pbc)
    template.info = {k: start.info[k] for k in ("molecules", "charge") if k in start.info}
    if "molecule" in start.arrays:
        template.set_array("molecule", start.arrays["molecule"])
    with open(path, encoding="utf-8") as file:
        for found in iter_file_raw("xyz", file):
            frame = template.copy()
            frame.positions = np.asarray(found["data"]).reshape(-1, 3)
            if start.pbc.all():
                frame.set_cell(np.asarray(found["cell"]).T)
            step = STEP.search(str(found["comment"]))
            if step is not None:
                frame.info["step"] = int(step[1])
            yield frame


def write_extended(folder: Path, start: Atoms) -> list[Path]:
    """``pimd.<what>.extxyz`` beside every ``pimd.<what>.xyz`` of a run, each whole or not at all.

    Positions are those of i-PI, not wrapped. The originals stay: i-PI appends to them on a resume.
    """
    written = []
    for path in sorted(folder.glob(f"{PREFIX}.*.xyz")):
        target = path.with_suffix(".extxyz")
        temporary = target.with_name(target.name + ".tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            for frame in iter_frames(path, start):
                write(file, frame, format="extxyz")
        os.replace(temporary, target)
        written.append(target)
    return written
