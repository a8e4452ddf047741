"""Distributions of kinetic energy, potential energy and volume, against statistical mechanics.

Shirts, J. Chem. Theory Comput. 9, 909 (2013); Merz and Shirts, PLoS ONE 13, e0202764 (2018), with
the package physical-validation. A liquid of 32 atoms, for both engines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from toy_engine import make_loop, moving, run_steps, toy_calculator
from toy_md import argon

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.ase.ase_engine import ASEEngine
from hff_ase.units import BAR

N_ATOMS, TIMESTEP = 32, 5.0
SETTINGS = {"timestep": TIMESTEP, "friction": 5.0, "tdamp": 100.0, "pdamp": 300.0}
COLUMNS = ("kinetic", "potential", "volume")
# two states each: K, bar
STATES = {
    "nvt": ((500.0, 0.0), (600.0, 0.0)),
    "nvt-nhc": ((500.0, 0.0), (600.0, 0.0)),
    "npt": ((500.0, 2000.0), (500.0, 3500.0)),
    "npt-scr": ((500.0, 2000.0), (500.0, 3500.0)),
}

Series = list[dict[str, np.ndarray]]  # per independent run


def box(temperature: float, seed: int) -> Atoms:
    atoms = argon(2)
    atoms.set_cell(atoms.cell * 1.06, scale_atoms=True)
    return moving(atoms, temperature, seed)


def with_torch(ensemble: str) -> list[Series]:
    """Sixteen replicas of each state in one batch, 35 ps each."""
    replicas = 16
    states = [state for state in STATES[ensemble] for _ in range(replicas)]
    boxes = [box(kelvin, seed) for seed, (kelvin, _) in enumerate(states)]
    loop = make_loop(
        ensemble,
        boxes,
        temperature=[kelvin for kelvin, _ in states],
        pressure=[bar * BAR for _, bar in states],
        **SETTINGS,
    )
    known = run_steps(loop, 7000)
    runs = [{name: known[name][1000:, k] for name in COLUMNS} for k in range(len(states))]
    return [runs[:replicas], runs[replicas:]]


def with_ase(ensemble: str) -> list[Series]:
    """One run of each state, 150 ps."""
    found = []
    for seed, (kelvin, bar) in enumerate(STATES[ensemble]):
        pressure: dict[str, Any] = {"pressure": bar} if ensemble == "npt" else {}
        config = MDConfig(
            ensemble=ensemble, time="1ps", temperature=kelvin, engine="ase", **SETTINGS, **pressure
        )
        atoms, calc = box(kelvin, seed), toy_calculator()
        atoms.calc = calc
        engine = ASEEngine(atoms, config, calc, np.random.default_rng(seed), {})
        engine.begin(ensemble, 0, {})
        samples = [engine.advance(1)[0] for _ in range(30000)][1000:]
        series = {name: np.array([getattr(s, name) for s in samples]) for name in COLUMNS}
        found.append([series])
    return found


def simulation(validation: Any, ensemble: str, state: tuple[float, float], series: Series) -> Any:
    """Samples far enough apart to be independent, as physical-validation takes them."""
    from pymbar import timeseries

    kelvin, bar = state
    tested = "volume" if ensemble.startswith("npt") else "potential"
    inefficiency = np.mean(
        [timeseries.statistical_inefficiency(run[name]) for run in series for name in (tested,)]
    )
    stride = int(np.ceil(inefficiency))
    kept = {name: np.concatenate([run[name][::stride] for run in series]) for name in COLUMNS}
    data = validation.data
    kind = "NPT" if ensemble.startswith("npt") else "NVT"
    held = {"pressure": bar * BAR} if kind == "NPT" else {"volume": float(kept["volume"][0])}
    to_theirs = data.UnitData(  # kJ/mol, nm, bar, ps
        kb=units.kB,
        energy_conversion=units.mol / units.kJ,
        length_conversion=0.1,
        volume_conversion=1e-3,
        temperature_conversion=1.0,
        pressure_conversion=1.0 / BAR,
        time_conversion=1.0,
    )
    return data.SimulationData(
        units=to_theirs,
        system=data.SystemData(
            natoms=N_ATOMS, nconstraints=0, ndof_reduction_tra=3, ndof_reduction_rot=0
        ),
        ensemble=data.EnsembleData(kind, natoms=N_ATOMS, temperature=kelvin, **held),
        observables=data.ObservableData(
            kinetic_energy=kept["kinetic"],
            potential_energy=kept["potential"],
            total_energy=kept["kinetic"] + kept["potential"],
            volume=kept["volume"],
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", STATES)
@pytest.mark.parametrize("sample", [with_torch, with_ase])
def test_distributions(ensemble, sample):
    validation = pytest.importorskip("physical_validation")
    if ensemble == "npt-scr" and sample is with_ase:
        pytest.skip("the torch engine's alone")
    found = sample(ensemble)
    runs = [
        simulation(validation, ensemble, state, series)
        for state, series in zip(STATES[ensemble], found, strict=True)
    ]
    options = {"verbosity": 0, "data_is_uncorrelated": True}
    for run in runs:
        mean, width = validation.kinetic_energy.distribution(
            run, strict=False, bootstrap_seed=1, **options
        )
        print(
            f"{sample.__name__} {ensemble}: {len(run.observables.kinetic_energy)} samples, kinetic "
            f"energy: temperature of the mean {mean:.2f}, of the width {width:.2f} errors off"
        )
        assert abs(mean) < 4
        assert abs(width) < 4
    (off,) = validation.ensemble.check(*runs, **options)
    print(f"{sample.__name__} {ensemble}: ratio of the distributions {off:.2f} errors off")
    assert abs(off) < 4
