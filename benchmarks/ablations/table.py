"""A table of the held-out errors of what run.py has trained.

python benchmarks/ablations/table.py FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hff_ase.checkpoint import load_model

COLUMNS = {  # heading: key of the errors, factor
    "forces (meV/A)": ("forces", 1e3),
    "energy (meV/atom)": ("energy", 1e3),
    "charges (me)": ("charges", 1e3),
}


def row(path: Path) -> str:
    """One line of the table."""
    potential, info = load_model(path, verify=False)
    errors = info.details["validation"]
    n_parameters = sum(p.numel() for p in potential.parameters())
    cells = [path.parent.name, str(n_parameters), str(info.details["steps"])]
    for key, factor in COLUMNS.values():
        found = [value for name, value in errors.items() if name.endswith(f"{key}_rmse")]
        cells.append(f"{factor * found[0]:.1f}" if found else "")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    print("| network | parameters | steps | " + " | ".join(COLUMNS) + " |")
    print("|---" * (3 + len(COLUMNS)) + "|")
    for path in sorted(args.folder.glob("*/model.hff")):
        print(row(path))


if __name__ == "__main__":
    main()
