"""Harmonic and Morse bonds through the driver against exact results for as many beads, to 1 %."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import write
from ase.units import Bohr

from hff_ase.dynamics.pimd.config import PIMDConfig
from hff_ase.dynamics.pimd.force_fields import driver_path
from hff_ase.dynamics.pimd.input_xml import input_xml, load_start
from hff_ase.dynamics.pimd.results import read_properties

pytest.importorskip("ipi", reason="path integrals run in i-PI (pip install 'hff-ase[pimd]')")
HBAR = units._hbar / units._e * units.second  # eV in ASE's unit of time
MASS = 1.008 * 16 / 17.008  # of the bond O-H, amu
QUANTUM = 3700.0 * units.invcm  # hbar omega at the bottom of the well, eV
TIMESTEP = 0.5  # fs; w dt = 0.35
DEPTH = 4.6  # eV, of the Morse well
STIFFNESS = MASS * (QUANTUM / HBAR) ** 2
DRIVER = """
import torch
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.hff_ipi_driver import HFFDriver
from hff_ase.potential import HybridPotential
from hff_ase.terms.term import Term

__DRIVER_NAME__ = "wells"
__DRIVER_CLASS__ = "Wells"

class Well(Term):
    kind = "well"
    def forward(self, batch, neighbors, fields):
        x = batch.positions
        return ({energy}).sum(1)

class Wells(HFFDriver):
    def load_members(self, names, **options):
        return [HybridFF(HybridPotential({{"well": Well()}}), dtype="float64")]
"""
STEEPNESS = float(np.sqrt(STIFFNESS / (2 * DEPTH)))
WELLS = {
    "harmonic": f"{0.5 * STIFFNESS} * x ** 2",
    "morse": f"{DEPTH} * (1 - torch.exp(-{STEEPNESS} * x)) ** 2",
}


def potential(name: str, x: np.ndarray) -> np.ndarray:
    """Energy of a coordinate, eV."""
    if name == "harmonic":
        return 0.5 * STIFFNESS * x**2
    return DEPTH * (1 - np.exp(-STEEPNESS * x)) ** 2


def exact(name: str, temperature: float, beads: int) -> dict[str, float]:
    """Averages of one coordinate for a ring of so many beads, by products of matrices on a grid.

    With the density matrix rho of 1/P of the inverse temperature, Z = Tr rho^P, and the kinetic
    energy is what is left of -d ln Z/d beta without the potential.
    """
    x = np.linspace(-0.7, 1.5, 440)
    width = x[1] - x[0]
    values = potential(name, x)

    def density(beta: float) -> tuple[float, np.ndarray]:
        tau = beta / beads
        spring = MASS / (2 * tau * HBAR**2)
        rho = np.exp(-spring * (x[:, None] - x) ** 2) * np.sqrt(spring / np.pi) * width
        rho *= np.exp(-0.5 * tau * (values[:, None] + values))
        product = np.linalg.matrix_power(rho, beads)
        return float(np.log(np.trace(product))), np.diag(product) / np.trace(product)

    beta, step = 1 / (units.kB * temperature), 1e-3
    total = -(density(beta + step)[0] - density(beta - step)[0]) / (2 * step)
    weights = density(beta)[1]
    return {
        "total": total,
        "potential": float(weights @ values),
        "mean": float(weights @ x),
        "square": float(weights @ x**2),
    }


def sampled(
    name: str, temperature: float, beads: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, float]:
    """The same averages from i-PI with the driver, over many bonds at once."""
    from ipi.scripting import InteractiveSimulation

    n_atoms, steps, first = 450, 2600, 300
    atoms = Atoms(f"H{n_atoms}", 0.07 * np.random.default_rng(0).normal(size=(n_atoms, 3)))
    atoms.set_masses(np.full(n_atoms, MASS))
    start = folder / "start.extxyz"
    write(start, atoms, columns=["symbols", "positions", "masses"])
    driver = folder / "wells.py"
    driver.write_text(DRIVER.format(energy=WELLS[name]))
    config = PIMDConfig.load({
        "structure": str(start), "model": "electrolyte", "beads": beads, "timestep": TIMESTEP,
        "temperature": temperature, "time": f"{TIMESTEP * steps}fs", "tdamp": 6.0,
        "statistics_interval": 4, "trajectory_interval": 100_000, "checkpoint_interval": 100_000,
    })  # fmt: skip
    text = input_xml(config, load_start(str(start))).replace(str(driver_path()), str(driver))
    # the wells hold their atoms: the centre of mass moves as well
    text = text.replace(
        '<motion mode="dynamics">', '<motion mode="dynamics"><fixcom>False</fixcom>'
    )
    monkeypatch.chdir(folder)
    simulation: Any = InteractiveSimulation(text)
    simulation.run(first, write_outputs=True)
    means, squares = [], []
    for _ in range((steps - first) // 20):
        simulation.run(20, write_outputs=True)
        places = np.array(simulation.syslist[0].beads.q) * Bohr
        means.append(places.mean())
        squares.append(np.square(places).mean())
    rows = read_properties(folder / "pimd.properties")
    late = rows["step"] > first
    per = {
        key: rows[f"{key}{{electronvolt}}"][late].mean() / (3 * n_atoms)
        for key in ("potential", "kinetic_cv", "kinetic_td")
    }
    return {
        "total": per["potential"] + per["kinetic_cv"],
        "total_primitive": per["potential"] + per["kinetic_td"],
        "potential": per["potential"],
        "mean": float(np.mean(means)),
        "square": float(np.mean(squares)),
    }


def test_matrix_products_give_the_closed_form_of_the_oscillator() -> None:
    temperature, beads = 300.0, 8
    kT = units.kB * temperature
    modes = 2 * beads * kT * np.sin(np.arange(beads) * np.pi / beads)
    closed = kT * np.sum(QUANTUM**2 / (QUANTUM**2 + modes**2))
    found = exact("harmonic", temperature, beads)
    assert found["total"] == pytest.approx(closed, rel=1e-5)
    assert found["square"] == pytest.approx(closed / STIFFNESS, rel=1e-5)
    assert abs(found["mean"]) < 1e-9
    # and many beads those of quantum mechanics: E0 = hw/2 - (hw)^2 / 16 D, the bond at rest
    many = exact("morse", temperature, 256)
    assert many["total"] == pytest.approx(QUANTUM / 2 - QUANTUM**2 / (16 * DEPTH), rel=1e-3)


@pytest.mark.slow  # a minute each: 1350 bonds over 0.4 ps, for errors below 1 %
@pytest.mark.parametrize("name", ["harmonic", "morse"])
def test_energies_and_widths_are_exact(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temperature, beads = 300.0, 16
    found = sampled(name, temperature, beads, tmp_path, monkeypatch)
    expected = exact(name, temperature, beads)
    print(name, {key: (round(found[key], 6), round(value, 6)) for key, value in expected.items()})
    for key in ("total", "potential", "square"):
        assert found[key] == pytest.approx(expected[key], rel=0.01), key
    assert found["total_primitive"] == pytest.approx(expected["total"], rel=0.02)
    if name == "morse":  # the bond is longer than in its minimum
        assert found["mean"] == pytest.approx(expected["mean"], rel=0.05)
