"""Thermostatted ring polymers: an equilibrated start, then dipoles along the way for a spectrum.

Needs i-PI: pip install 'hff-ase[pimd]'. Real spectra take tens of picoseconds from several starts.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import write
from ase.optimize import BFGS

from hff_ase import HybridFF

STEP = 0.5  # fs


def start() -> Atoms:
    """An ethanol molecule at rest."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = HybridFF.load("electrolyte")
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=100)
    return atoms


def main(folder: Path) -> None:
    """Twenty steps with a thermostat on every mode, forty with none on the centroid."""
    from hff_ase.dynamics.pimd import PIMDConfig, PIMDRun

    write(folder / "ethanol.extxyz", start(), columns=["symbols", "positions"])
    settings = {
        "structure": str(folder / "ethanol.extxyz"),
        "model": "electrolyte",
        "beads": 4,
        "temperature": 300.0,
        "timestep": STEP,
        "statistics_interval": 1,
        "trajectory_interval": 1,
    }
    thermal = PIMDConfig.load({**settings, "time": "10fs", "output": str(folder / "pile")})
    first = PIMDRun.create(thermal)
    first.run(progress=False)
    trpmd = {
        "thermostat": "trpmd",
        "start_from": str(first["RESTART"]),
        "time": "20fs",
        "extras": ("dipole",),
        "output": str(folder / "trpmd"),
    }
    second = PIMDRun.create(PIMDConfig.load({**settings, **trpmd}))
    second.run(progress=False)
    beads = [np.loadtxt(path) for path in sorted(second.folder.glob("pimd.dipole_*"))]
    dipole = np.mean(beads, axis=0)  # e Angstrom, of the centroid: [step, 3]
    change = np.gradient(dipole, STEP, axis=0)
    correlation = [np.mean((change[t:] * change[: len(change) - t]).sum(1)) for t in range(20)]
    print(
        f"{len(dipole)} dipoles of {len(beads)} beads, mean {np.linalg.norm(dipole.mean(0)):.3f} eA"
    )
    print("correlation of their rates, 0 to 9 fs:", np.round(correlation / correlation[0], 2))


if find_spec("ipi") is None:
    print("this example needs i-PI: pip install 'hff-ase[pimd]'")
else:
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
