"""Draw learning curves from the `curve.jsonl` that the trainer writes.

python benchmarks/learning_curve.py electrolyte-preview-run/curve.jsonl -o docs/learning_curve.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = {
    "forces_rmse": (1e3, "forces RMSE (meV/A)"),
    "charges_rmse": (1e3, "charges RMSE (me)"),
    "stress_rmse": (1e3, "stress RMSE (meV/A$^3$)"),
    "energy_rmse": (1e3, "energy RMSE (meV/atom)"),
}


def main() -> None:
    """Held-out errors against training steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curve", type=Path)
    parser.add_argument("--output", "-o", type=Path, required=True)
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.curve.read_text().splitlines()]
    figure, axes = plt.subplots(1, len(PANELS), figsize=(12, 3), layout="constrained")
    for panel, (key, (factor, label)) in zip(axes, PANELS.items(), strict=True):
        panel.semilogy([row["step"] for row in rows], [factor * row[key] for row in rows], ".-")
        panel.set(xlabel="step", ylabel=label)
    figure.savefig(args.output, dpi=130)


if __name__ == "__main__":
    main()
