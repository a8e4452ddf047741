"""Energy conservation of an imported BAMBOO checkpoint.

    python benchmarks/nve_drift.py run --checkpoint benchmark.pt --box box.extxyz --mode exact
    python benchmarks/nve_drift.py plot nve-exact.json nve-published.json -o docs/nve_drift.png

"exact" and "published" (forces at fixed charges) are in float64 with an Ewald sum, "fused" and
"float32" have networks in float32 and a mesh, with fused kernels and without. `run` does NVE at a
fixed time step and writes the total energy against time; the drift is the slope of a straight line
through it, the wander the RMS of what is left.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ase import units
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

from hff_ase import HybridFF
from hff_ase.allocator import keep_memory

FLOAT64 = {"coulomb_method": "ewald", "dtype": "float64"}
MODES = {
    "exact": {**FLOAT64, "charge_response": True},
    "published": {**FLOAT64, "charge_response": False},
    "fused": {"kernels": "auto"},
    "float32": {"kernels": "reference"},
}


def run(args: argparse.Namespace) -> None:
    """One NVE run, from velocities at 300 K that both modes share."""
    keep_memory()
    atoms = read(args.box)
    atoms.calc = HybridFF.from_bamboo(args.checkpoint, tolerance=args.tolerance, **MODES[args.mode])
    MaxwellBoltzmannDistribution(atoms, temperature_K=300.0, rng=np.random.default_rng(0))
    Stationary(atoms)
    md = VelocityVerlet(atoms, args.timestep * units.fs)
    rows: list[tuple[float, float, float]] = []

    def record() -> None:
        time = md.nsteps * args.timestep
        rows.append((time, atoms.get_total_energy() / len(atoms), atoms.get_temperature()))
        if len(rows) % 50 == 0:
            print(
                f"{args.mode} {time:8.1f} fs  {rows[-1][1] - rows[0][1]:+.3e} eV/atom", flush=True
            )

    md.attach(record, interval=10)
    md.run(round(args.time * 1000 / args.timestep))
    times, energies, temperatures = np.array(rows).T
    slope, offset = np.polyfit(times / 1000, energies, 1)
    result = {
        "mode": args.mode,
        "atoms": len(atoms),
        "timestep_fs": args.timestep,
        "drift_eV_per_atom_per_ps": slope,
        "wander_eV_per_atom": float(np.std(energies - slope * times / 1000 - offset)),
        "mean_temperature_K": float(temperatures.mean()),
        "time_fs": times.tolist(),
        "energy_eV_per_atom": (energies - energies[0]).tolist(),
    }
    args.output.write_text(json.dumps(result))
    print({key: value for key, value in result.items() if not isinstance(value, list)})


def plot(args: argparse.Namespace) -> None:
    """Both modes in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for path in args.results:
        data = json.loads(path.read_text())
        label = f"{data['mode']}: {data['drift_eV_per_atom_per_ps']:+.1e} eV/atom/ps"
        axes.plot(np.array(data["time_fs"]) / 1000, 1e3 * np.array(data["energy_eV_per_atom"]),
                  label=label)  # fmt: skip
    axes.set(xlabel="time (ps)", ylabel="total energy (meV/atom)")
    axes.legend(frameon=False)
    figure.savefig(args.output, dpi=150)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    command.add_argument("--checkpoint", type=Path, required=True)
    command.add_argument("--box", type=Path, required=True)
    command.add_argument("--mode", choices=list(MODES), required=True)
    command.add_argument("--time", type=float, default=5.0, help="ps")
    command.add_argument("--timestep", type=float, default=0.5, help="fs")
    command.add_argument("--tolerance", type=float, default=1e-6)
    command.add_argument("--output", "-o", type=Path, required=True)
    command.set_defaults(function=run)
    command = commands.add_parser("plot")
    command.add_argument("results", type=Path, nargs="+")
    command.add_argument("--output", "-o", type=Path, required=True)
    command.set_defaults(function=plot)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
