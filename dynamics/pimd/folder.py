"""The folder of a path integral run: its files, checkpoints of i-PI's, and the lock."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hff_ase.dynamics.pimd.force_fields import START
from hff_ase.dynamics.pimd.input_xml import CHECKPOINTS, PREFIX, PROPERTIES
from hff_ase.dynamics.pimd.results import COLUMN, cut_frames, cut_properties, numbers_of
from hff_ase.errors import SimulationError

INPUT, CONFIG, RESUME = "input.xml", "config.yaml", "resume.xml"
SUMMARY, PLOT, LOCK, GLE = "summary.yaml", "pimd.png", "lock", "gle.xml"
RDF = "rdf.dat"
SIGNATURE = "# sha256 of the lines above: "


class PIMDFolder:
    """Files by name, and what i-PI has left in them.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, name: str) -> Path:
        return self.path / name

    @property
    def address(self) -> str:
        """Name of the socket between i-PI and the driver, of this folder alone."""
        return "hff_" + hashlib.sha1(str(self.path.resolve()).encode()).hexdigest()[:10]

    def last_row(self) -> dict[str, float]:
        """The newest whole row of i-PI's properties, read from the end of the file."""
        path = self[PROPERTIES]
        if not path.exists():
            return {}
        with open(path, "rb") as file:
            names = [m[2] for m in COLUMN.finditer(file.read(16384).decode(errors="replace"))]
            file.seek(max(0, path.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()
        for line in reversed(lines):
            values = numbers_of(line, len(names))
            if values is not None:
                return dict(zip(names, values, strict=True))
        return {}

    def newest_start(self) -> tuple[int, str]:
        """Step and file that i-PI continues from, with its outputs cut back to that step."""
        found = [(step, path) for path in self._restarts() if (step := step_of(path)) is not None]
        self["EXIT"].unlink(missing_ok=True)  # a wish to i-PI of long ago
        for path in self.path.glob("#*#"):  # i-PI's copies of what it replaced
            path.unlink()
        if not found:
            for path in self.path.glob(f"{PREFIX}.*"):
                path.unlink()
            return 0, INPUT
        step, path = max(found, key=lambda item: item[0])
        shutil.copyfile(path, self[RESUME])
        cut_properties(self[PROPERTIES], step)
        for frames in self.path.glob(f"{PREFIX}.*.xyz"):
            cut_frames(frames, step)
        return step, RESUME

    def _restarts(self) -> list[Path]:
        return [self[name] for name in ("RESTART", *CHECKPOINTS) if self[name].exists()]

    def own(self) -> list[Path]:
        """All that a run has written here."""
        names = (INPUT, CONFIG, RESUME, SUMMARY, START, GLE, RDF, "RESTART", "ipi.log")
        own = [self[name] for name in names if self[name].exists()]
        # the plot among the last
        return [*own, *self.path.glob("driver*.log"), *self.path.glob(f"{PREFIX}.*")]

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Keep others out; i-PI holds the lock as well, should this process be killed.

        Raises:
            SimulationError: another run is in progress here.
        """
        with open(self[LOCK], "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SimulationError(f"another process is running in {self.path}") from None
            yield file.fileno()


def signed(text: str) -> str:
    """Settings with a last line by which `unedited` knows them."""
    return f"{text}{SIGNATURE}{hashlib.sha256(text.encode()).hexdigest()}\n"


def unedited(path: Path) -> str:
    """The settings of a run as they were written.

    Raises:
        SimulationError: they were changed (a file without its last line is accepted).
    """
    content = path.read_text(encoding="utf-8")
    text, found, digest = content.rpartition(SIGNATURE)
    if found and hashlib.sha256(text.encode()).hexdigest() != digest.strip():
        raise SimulationError(
            f"expected the settings that the run was started with in {path}, got edited ones: i-PI "
            "continues from its own checkpoint; restore them, or start another run"
        )
    return content


def step_of(path: Path) -> int | None:
    """Steps done at a checkpoint of i-PI's; None where it was cut short while it was written."""
    text = path.read_text(encoding="utf-8", errors="replace")
    found = re.search(r"<step>\s*(\d+)\s*</step>", text)
    return int(found[1]) if found and text.rstrip().endswith("</simulation>") else None
