"""Heat of vaporisation of molecules that do not see each other: RT, whatever they are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from core_models import toy_molecules

from hff_ase.calculators import HybridFF
from hff_ase.dynamics.properties import analyse, gas_stage, read_folder
from hff_ase.dynamics.properties.gas_stage import gas_stretches, run_gas, single_molecules
from hff_ase.dynamics.properties.request import Point, Request
from hff_ase.dynamics.properties.stages import NPT, carry_on
from hff_ase.dynamics.properties.state import StatePoint
from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.terms import Bonded

T, N = 300.0, 12


def springs() -> HybridFF:
    """Water molecules of springs, without anything between them."""
    model = HybridPotential({"bonded": Bonded(toy_molecules()[:1])})
    return HybridFF(model.requires_grad_(False), dtype="float64")


def box(seed: int) -> Atoms:
    water = Atoms("OHH", [[0, 0, 0], [0.97, 0, 0], [-0.25, 0.94, 0]])
    made = Atoms(cell=[20.0] * 3, pbc=True)
    for k in range(N):
        one = water.copy()
        one.rattle(0.03, seed=seed + k)
        one.positions += 20.0 * np.array([k % 3, k // 3 % 2, k // 6]) / 3 - 0.4
        one.set_array("molecule", np.full(3, k))
        made += one
    made.info["molecules"] = ["water"] * N
    made.wrap()
    return made


def test_molecules_are_taken_whole_and_from_every_box():
    found = single_molecules([box(0), box(100)], 6)
    assert len(found) == 6
    for one in found:
        assert not one.pbc.any()
        assert one.info["molecules"] == ["water"]
        assert one.get_all_distances().max() < 2.0
    apart = {tuple(np.round(one.get_all_distances().ravel(), 6)) for one in found}
    assert len(apart) == 6


@pytest.mark.slow
def test_heat_of_vaporisation_of_molecules_that_do_not_see_each_other(tmp_path, monkeypatch):
    for name, value in (("MOLECULES", 12), ("SETTLING", 0.3), ("FRICTION", 20.0), ("EVERY", 4)):
        monkeypatch.setattr(gas_stage, name, value)
    request = Request(
        recipe=["water"], temperature=[T], model="toy", property=["heat_of_vaporisation"],
        replicas=4, npt="1ps", gas="1.5ps", dtype="float64", progress=False,
    )  # fmt: skip
    assert request.needs_gas
    assert not request.needs_volume
    settings = {
        "model": "toy", "dtype": "float64", "progress": False, "output": str(tmp_path / NPT),
        "temperature": T, "stages": ["npt-scr:1.2ps"], "pressure": 60.0, "timestep": 0.5,
        "friction": 20.0, "minimize": False, "plot": False, "statistics_interval": 4,
        "trajectory_interval": 2000, "bond_watch": "off",
    }  # fmt: skip
    boxes = [box(100 * k) for k in range(4)]
    carry_on(tmp_path / NPT, settings, boxes, springs(), None, None)
    run_gas(tmp_path, Point("water", T), request, springs(), None)
    (liquid,) = read_folder(tmp_path / NPT)
    state = StatePoint("water", T, (*liquid.stretches, *gas_stretches(tmp_path)))
    found = analyse([state], ["heat_of_vaporisation"]).results[0].quantities
    heat = found["heat_of_vaporisation"].found
    exact = units.kB * T / (units.kJ / units.mol)
    assert heat.error < 2.0
    assert abs(heat.value - exact) < 4 * heat.error
    gas = heat.details["gas"]  # three vibrations, nearly harmonic
    assert gas.value == pytest.approx(1.5 * units.kB * T, rel=0.3)
    without = StatePoint("water", T, liquid.stretches)
    (refused,) = analyse([without], ["heat_of_vaporisation"]).results[0].quantities.values()
    assert "--property heat_of_vaporisation" in refused.found.reason


def test_atoms_have_no_heat_that_needs_a_run(tmp_path, monkeypatch):
    argon = Atoms("Ar2", [[0, 0, 0], [4, 4, 4]], cell=[8] * 3, pbc=True)
    argon.set_array("molecule", np.array([0, 1]))
    argon.info["molecules"] = ["Ar", "Ar"]
    monkeypatch.setattr(gas_stage, "last_frames", lambda *_: [argon])
    request = Request(recipe=["argon"], temperature=[T], model="toy", npt="1ps", nvt="1ps")
    with pytest.raises(ConfigError, match="several atoms in the gas, got Ar"):
        run_gas(Path(tmp_path), Point("argon", T), request, springs(), None)
