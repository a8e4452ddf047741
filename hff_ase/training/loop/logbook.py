"""Output of a training: a bar, a table, log.csv, log.jsonl, curves, TensorBoard."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from hff_ase.errors import ConfigError
from hff_ase.files import write_whole
from hff_ase.progress import ProgressBar
from hff_ase.training.config import LoggingSection

LogRow = dict[str, float]
# Columns of the table on the screen: key, heading, factor.
SHOWN = (
    ("train_forces_rmse", "train F", 1e3),
    ("forces_rmse", "F meV/A", 1e3),
    ("energy_rmse", "E meV/at", 1e3),
    ("charges_rmse", "q me", 1e3),
    ("stress_rmse", "S meV/A3", 1e3),
)
SECONDS_BETWEEN_PLOTS = 300.0


class Logbook:
    """Rows of a learning curve, on disk and on the screen.

    Args:
        folder: where the files are written; None writes and shows nothing.
        section: what is wanted.
        n_steps: length of the run, None if time ends it.
        rows: those of the run that is continued.
    """

    def __init__(
        self,
        folder: Path | None,
        section: LoggingSection,
        n_steps: int | None,
        rows: list[LogRow] | None = None,
        console: Console | None = None,
    ) -> None:
        self.rows = list(rows or [])
        self._folder, self._section = folder, section
        shown = section.progress and folder is not None
        console = console or Console(stderr=True)
        self._bar = ProgressBar("train", n_steps, shown, console, seconds_left=True)
        self._headed = False
        self._plotted = time.monotonic()
        wanted = section.tensorboard and folder is not None
        self._board = tensorboard(folder / "tensorboard") if wanted and folder else None

    def __enter__(self) -> Logbook:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)
        if self._board is not None:
            self._board.close()
        if self._folder is not None and self._section.plot and self.rows:
            plot(self.rows, self._folder / "log.png")

    def say(self, message: str) -> None:
        """Print a permanent line."""
        self._bar.say(message)

    def progress(self, step: int, state: str) -> None:
        """Update the bar, at most every so often."""
        if self._bar.drawn and self._bar.due():
            self._bar.update(state, step)

    def add(self, row: LogRow) -> None:
        """Add a row to the files and to the table."""
        self.rows.append(row)
        if self._folder is None:
            return
        write_rows(self.rows, self._folder)
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, int(row["step"]))
        if self._bar.shown:
            self._show(row)
        if self._section.plot and time.monotonic() - self._plotted > SECONDS_BETWEEN_PLOTS:
            self._plotted = time.monotonic()
            plot(self.rows, self._folder / "log.png")

    def _show(self, row: LogRow) -> None:
        columns = [column for column in SHOWN if column[0] in row]
        if not self._headed:
            self._headed = True
            heads = "".join(f"{head:>10}" for _, head, _ in columns)
            self.say(f"{'step':>8}{'epoch':>8}{'rate':>10}{'loss':>11}{heads}{'frames/s':>10}")
        values = "".join(f"{factor * row[key]:10.2f}" for key, _, factor in columns)
        start = f"{row['step']:8.0f}{row['epoch']:8.2f}{row['learning_rate']:10.1e}"
        self.say(f"{start}{row['loss']:11.3e}{values}{row['frames_per_s']:10.1f}")


def write_rows(rows: list[LogRow], folder: Path) -> None:
    """log.jsonl and log.csv, whole: a run that continues from an older state drops later rows."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_whole(folder / "log.jsonl", lines.encode())
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / "log.csv", text.getvalue().encode())


def tensorboard(folder: Path) -> Any:
    """A TensorBoard writer.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "expected the package tensorboard for logging.tensorboard, got none: "
            "pip install 'hff-ase[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder))


def plot(rows: list[LogRow], path: Path) -> None:
    """Learning curves: errors over steps, both logarithmic, and the learning rate."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(k for row in rows for k in row if k.endswith("_rmse")))
    groups = list(dict.fromkeys(name.removeprefix("train_") for name in names))
    figure = Figure(figsize=(3.2 * (len(groups) + 1), 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    units = {"forces_rmse": "eV/A", "energy_rmse": "eV/atom", "charges_rmse": "e"}
    units |= {"stress_rmse": "eV/A$^3$", "dipole_rmse": "e A", "esp_rmse": "V"}
    for index, group in enumerate([*groups, "learning_rate"]):
        axes = figure.add_subplot(1, len(groups) + 1, index + 1)
        for name, label in ((f"train_{group}", "training"), (group, "validation")):
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), ".-", ms=3, lw=1, label=label)
        axes.set_yscale("log")
        axes.set_xlabel("step")
        unit = f" ({units[group]})" if group in units else ""
        axes.set_title(group.replace("_", " ").replace("rmse", "RMSE") + unit, fontsize=9)
        if group in groups:
            axes.legend(fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_whole(path, buffer.getvalue())
