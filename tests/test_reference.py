"""Measured data: what is found, interpolated, and refused."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest

from hff_ase.dynamics.reference.lookup import (
    interpolate,
    landesfeind_conductivity,
    measured,
    polynomial,
)
from hff_ase.errors import ConfigError


def test_neat_liquids_at_measured_and_between_temperatures():
    dmc = measured("density", "DMC", 298.15)
    assert dmc is not None
    assert (dmc.value, dmc.unit, dmc.interpolated) == (1.0636, "g/cm^3", False)
    between = measured("density", "ethanol", 308.0)
    assert between is not None
    assert between.interpolated
    assert 0.773 < between.value < 0.7817
    assert measured("density", "ethanol", 340.0) is None  # never beyond the data
    assert measured("density", "DMC", 320.0) is None
    assert measured("density", "EC:DMC 1:1 w/w", 298.15) is None
    ec = measured("permittivity", "EC", 313.15)
    assert ec is not None
    assert ec.value == pytest.approx(89.78)


def test_viscosity_of_mixtures_by_moles():
    neat = measured("viscosity", "DEC", 302.5)
    assert neat is not None
    assert 0.7042 < neat.value < 0.7137
    mixed = measured("viscosity", "DEC:ethanol 35:65 mol/mol", 301.48)
    turned = measured("viscosity", "ethanol:DEC 65:35 mol/mol", 301.48)
    assert mixed is not None
    assert turned is not None
    assert mixed.value == pytest.approx(np.sqrt(0.7427 * 0.707), rel=1e-6)
    assert turned.value == pytest.approx(mixed.value)
    assert measured("viscosity", "DEC:ethanol 1:1 w/w", 301.48) is None
    assert measured("viscosity", "THF", 298.15) is None  # doubtful values are not shipped


def test_conductivity_between_concentrations_but_not_beyond():
    found = measured("conductivity", "0.9 M LiPF6 in EC:EMC 3:7 w/w", 298.15)
    assert found is not None
    assert found.interpolated
    assert 9.3 < found.value < 9.6
    assert found.uncertainty == pytest.approx(0.05 * found.value)
    assert "CC BY" in found.source
    assert measured("conductivity", "9 M LiPF6 in EC:EMC 3:7 w/w", 298.15) is None
    assert measured("conductivity", "1 M LiFSI in EC:EMC 3:7 w/w", 298.15) is None


def test_fits_of_landesfeind_give_their_checks():
    # values that come with the coefficients: 298.15 K, 1 M
    dmc = measured("transference_number", "1.0 M LiPF6 in EC:DMC 1:1 w/w", 298.15)
    emc = measured("transference_number", "1.0 M LiPF6 in EC:EMC 3:7 w/w", 298.15)
    factor = measured("thermodynamic_factor", "1.0 M LiPF6 in EC:EMC 3:7 w/w", 298.15)
    assert dmc is not None
    assert emc is not None
    assert factor is not None
    assert dmc.value == pytest.approx(0.325, abs=0.002)
    assert emc.value == pytest.approx(0.221, abs=0.002)
    assert factor.value == pytest.approx(2.18, abs=0.02)
    assert landesfeind_conductivity("EC:DMC", 1.0, 298.15) == pytest.approx(11.82, abs=0.02)
    assert landesfeind_conductivity("EC:EMC", 1.0, 298.15) == pytest.approx(9.13, abs=0.02)
    assert measured("transference_number", "2.0 M LiPF6 in EC:DMC 1:1 w/w", 298.15) is None
    assert measured("transference_number", "1.0 M LiPF6 in EC:DMC 1:1 w/w", 333.0) is None
    with pytest.raises(ConfigError, match="within"):
        landesfeind_conductivity("EC:DMC", 3.0, 298.15)
    assert polynomial([1.0] * 9, 0.0, 0.0) == 1.0


def test_nothing_unconfirmed_is_shipped():
    folder = files("hff_ase.dynamics.reference")
    for name in ("liquids.csv", "viscosity.csv", "landesfeind2019.json"):
        text = folder.joinpath(name).read_text(encoding="utf-8").casefold()
        assert "recall" not in text
        assert "recheck" not in text
    rows = folder.joinpath("liquids.csv").read_text(encoding="utf-8").splitlines()
    assert all(row.rsplit(",", 1)[1].strip() for row in rows)


def test_interpolation():
    x, y = np.array([1.0, 1.0, 3.0]), np.array([10.0, 12.0, 20.0])
    assert interpolate(x, y, 1.0) == (11.0, False)
    assert interpolate(x, y, 2.0) == (15.5, True)
    assert interpolate(x, y, 3.01) is None
    assert interpolate(x[:0], y[:0], 1.0) is None
    with pytest.raises(ConfigError, match="expected one of density"):
        measured("colour", "DMC", 298.15)


def test_additives_make_another_liquid() -> None:
    recipe = "1.0 M LiPF6 in EC:EMC 3:7 w/w"
    assert measured("conductivity", recipe, 298.15) is not None
    assert measured("conductivity", f"{recipe} + 2 wt% VC", 298.15) is None
