"""DFT labels of clusters beside models: forces, charges, dipoles, as a table for docs/labels.md.

    python benchmarks/label_clusters.py labelled.db electrolyte weights.npz -o table.md

Models are names or .hff files, or a .npz of an imported BAMBOO checkpoint. Where the labels contain
no dispersion, the models' dispersion terms are left out as well. The labels must be a database that
keeps the electrostatic potential: CHELPG charges are fitted to it with and without the dipole.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import Debye

from hff_ase import HybridFF
from hff_ase.data.frames import read_frames
from hff_ase.files import write_whole
from hff_ase.labels import chelpg_charges


def load(name: str, dispersion: bool) -> HybridFF:
    """A model, without its dispersion where the labels have none."""
    calc = HybridFF.from_bamboo(name) if name.endswith(".npz") else HybridFF.load(name)
    if dispersion:
        return calc
    terms = calc.potential.named_terms()
    keep = [n for n, term in terms if not any(k in term.kind for k in ("dispersion", "d3", "d4"))]
    return HybridFF(calc.potential.subset(keep), calc.info)


def rms(values: np.ndarray) -> float:
    """Root mean square over everything."""
    return float(np.sqrt(np.mean(np.square(values))))


def off(charges: np.ndarray, frame: Atoms) -> float:
    """By how much charges miss the dipole of the density, Debye."""
    return float(np.linalg.norm(charges @ frame.positions - frame.calc.results["dipole"]) / Debye)


def cluster_rows(frames: list[Atoms], results: dict[str, list[dict]]) -> list[str]:
    """One line per cluster: CHELPG's dipole error, and the force RMSE of every model."""
    names = list(results)
    lines = [
        "| cluster | atoms | charge | dipole, D | CHELPG off by, D | with constraint, D "
        f"| forces RMS | {' | '.join(f'{name}: RMSE' for name in names)} | seconds |",
        "|---" * (8 + len(names)) + "|",
    ]
    for k, frame in enumerate(frames):
        found = frame.calc.results
        grid = frame.info["esp_points"], frame.info["esp"], frame.info["charge"]
        free = chelpg_charges(frame, *grid)
        exact = chelpg_charges(frame, *grid, found["dipole"])
        errors = [1e3 * rms(results[name][k]["forces"] - found["forces"]) for name in names]
        lines.append(
            f"| {frame.info.get('molecules', frame.symbols)} | {len(frame)} "
            f"| {frame.info['charge']:+d} | {np.linalg.norm(found['dipole']) / Debye:.2f} "
            f"| {off(free, frame):.3f} | {off(exact, frame):.1e} "
            f"| {1e3 * rms(found['forces']):.0f} "
            f"| {' | '.join(f'{error:.0f}' for error in [*errors, frame.info['wall_time_s']])} |"
        )
    return lines


def model_rows(frames: list[Atoms], results: dict[str, list[dict]]) -> list[str]:
    """One line per model over all clusters."""
    lines = [
        "| model | forces RMSE, meV/A | forces MAE, meV/A | charges RMSE, e | dipole RMSE, D |",
        "|---|---|---|---|---|",
    ]
    forces = np.concatenate([f.calc.results["forces"] for f in frames])
    charges = np.concatenate([f.calc.results["charges"] for f in frames])
    for name, all_ in results.items():
        error = np.concatenate([r["forces"] for r in all_]) - forces
        line = f"| {name} | {1e3 * rms(error):.0f} | {1e3 * np.abs(error).mean():.0f} "
        if "charges" in all_[0]:
            predicted = np.concatenate([r["charges"] for r in all_])
            dipoles = [off(r["charges"], f) for r, f in zip(all_, frames, strict=True)]
            line += f"| {rms(predicted - charges):.3f} | {rms(np.array(dipoles)):.2f} |"
        else:
            line += "| | |"
        lines.append(line)
    return lines


def main() -> None:
    """Read the labels, evaluate the models, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    frames = read_frames(arguments.labels)
    dispersion = frames[0].info["method_dispersion"] != "none"
    results = {
        Path(name).stem: load(name, dispersion).evaluate(frames) for name in arguments.models
    }
    note = "with" if dispersion else "without"
    heading = (
        f"{len(frames)} clusters, {frames[0].info['method']} {note} dispersion, "
        f"{frames[0].info['code']} {frames[0].info['code_version']}, "
        f"{frames[0].info['threads']} thread(s); forces in meV/A"
    )
    lines = [heading, "", *cluster_rows(frames, results), "", *model_rows(frames, results)]
    print("\n".join(lines))
    if arguments.output:
        write_whole(arguments.output, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
