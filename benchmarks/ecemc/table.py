"""Table and figure of the trainings on the EC/EMC boxes.

    python benchmarks/ecemc/table.py FOLDER -o ecemc.md --figure ecemc.png

Reads <program>/log.jsonl and speed.jsonl of every program in the folder. The table has errors on
the test boxes at the end; the figure, errors of the forces against CPU time of training.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLUMNS = (
    "program", "parameters", "batch", "steps", "CPU min", "energy", "less mean", "forces",
    "stress", "inference ms", "train 1", "train 4",
)  # fmt: skip
LEGEND = (
    "RMSE on the 15 test boxes: energy and energy less its mean error in meV/atom, forces in "
    "meV/A, stress in meV/A^3. Inference: energy, forces and stress of a box of 160 atoms, given "
    "neighbours, ms of CPU time. Train: boxes per second of CPU time in batches of 1 and 4. One "
    "thread."
)


@dataclass
class Result:
    """What one program wrote."""

    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    speed: dict[str, Any] = field(default_factory=dict)

    def cells(self, name: str) -> list[str]:
        """Its line of the table."""
        last = self.rows[-1] if self.rows else {}
        test = last.get("test", {})
        return [
            name,
            f"{self.settings.get('parameters', 0):,}",
            str(self.settings.get("batch_size", "")),
            str(last.get("steps", "")),
            _number(last.get("cpu_s"), 1.0 / 60.0, 0),
            *(_number(test.get(key), 1.0, 2) for key in ("energy", "energy_less_mean")),
            _number(test.get("forces"), 1.0, 1),
            _number(test.get("stress"), 1.0, 2),
            _number(self.speed.get("inference_ms"), 1.0, 1),
            *(_number(self.speed.get(f"train_frames_per_s_batch_{n}"), 1.0, 1) for n in (1, 4)),
        ]


def read_result(folder: Path) -> Result:
    """The logs in a program's folder; of a run continued several times, all rows."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    settings = [line["settings"] for line in lines if "settings" in line]
    result = Result(settings[-1] if settings else {})
    result.rows = [line for line in lines if "cpu_s" in line]
    if (folder / "speed.jsonl").exists():
        result.speed = json.loads((folder / "speed.jsonl").read_text().splitlines()[-1])["speed"]
    return result


def draw(results: dict[str, Result], path: Path) -> None:
    """RMSE of forces against CPU time: on validation boxes (lines), test boxes (last points)."""
    figure, axis = plt.subplots(figsize=(5.5, 4.0), layout="constrained")
    for name, result in results.items():
        rows = [row for row in result.rows if "forces" in row.get("validation", {})]
        minutes = [row["cpu_s"] / 60.0 for row in rows]
        (line,) = axis.plot(
            minutes, [row["validation"]["forces"] for row in rows], ".-", label=name
        )
        if result.rows and "test" in result.rows[-1]:
            end, test = result.rows[-1]["cpu_s"] / 60.0, result.rows[-1]["test"]["forces"]
            axis.plot([end], [test], "s", color=line.get_color(), markerfacecolor="none")
    axis.set(xlabel="CPU time of training (min)", ylabel="forces RMSE (meV/A)", yscale="log")
    axis.legend()
    figure.savefig(path, dpi=130)


def _number(value: float | None, factor: float, digits: int) -> str:
    return "" if value is None else f"{factor * value:.{digits}f}"


def main() -> None:
    """Write the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", "-o", type=Path)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    folders = sorted(path.parent for path in args.folder.glob("*/log.jsonl"))
    if not folders:
        parser.error(f"expected <program>/log.jsonl in {args.folder}, got none")
    results = {folder.name: read_result(folder) for folder in folders}
    table = [list(COLUMNS), ["---"] * len(COLUMNS)]
    table += [result.cells(name) for name, result in results.items()]
    text = "\n".join("| " + " | ".join(row) + " |" for row in table) + f"\n\n{LEGEND}\n"
    if args.output is None:
        print(text)
    else:
        args.output.write_text(text)
    if args.figure is not None:
        draw(results, args.figure)


if __name__ == "__main__":
    main()
