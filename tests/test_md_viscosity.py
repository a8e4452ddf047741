"""Green and Kubo's viscosity of a made-up stress whose viscosity is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from hff_ase.dynamics.engine.interface import Sample
from hff_ase.dynamics.observables.green_kubo import (
    correlate_elements,
    traceless,
    viscosity,
    viscosity_of_run,
)
from hff_ase.dynamics.reporters.statistics import (
    Moment,
    format_row,
    header,
    pressure_columns,
    pressure_row,
)
from hff_ase.errors import ConfigError, SimulationError
from hff_ase.units import BAR

INTERVAL, DECAY, STRENGTH = 0.01, 0.06, 800.0  # ps, ps, bar
VOLUME, TEMPERATURE = 8000.0, 300.0  # A^3, K
# V/kT <P_xy^2> tau in SI units
SI = VOLUME * 1e-30 / (1.380649e-23 * TEMPERATURE) * (STRENGTH * 1e5) ** 2 * DECAY * 1e-12
EXPECTED = 1e3 * SI  # mPa s


def stress(n: int, seed: int = 0) -> np.ndarray:
    """Ornstein-Uhlenbeck noise [n, 6] of an isotropic liquid, on a mean pressure; bar."""
    keep = np.exp(-INTERVAL / DECAY)
    noise = np.random.default_rng(seed).normal(size=(n + 500, 6)) * np.sqrt(1 - keep**2)
    series = lfilter([1.0], [1.0, -keep], noise, axis=0)[500:]
    # the elements of an isotropic tensor: diagonal ones fluctuate by the root of two more
    return series * STRENGTH * np.array([2**0.5] * 3 + [1.0] * 3) + np.array(
        [300.0] * 3 + [0.0] * 3
    )


def test_known_viscosity_is_found_within_its_error():
    found = [viscosity(stress(60_000, k), INTERVAL, VOLUME, TEMPERATURE, 2.0) for k in range(4)]
    values, errors = np.array([(entry.value, entry.error) for entry in found]).T
    assert values.mean() == pytest.approx(EXPECTED, rel=0.05)
    deviation = (values - EXPECTED) / errors
    assert np.sqrt(np.mean(deviation**2)) < 2.0
    assert (errors < 0.12 * EXPECTED).all()
    assert errors.mean() > 0.01 * EXPECTED
    one = found[0]
    assert one.time[0] == one.integral[0] == 0
    half = np.searchsorted(one.time, DECAY * np.log(2))
    assert one.integral[half] == pytest.approx(EXPECTED / 2, rel=0.25)


def test_sum_over_elements_does_not_depend_on_the_axes():
    series = traceless(stress(2000))
    full = series[:, [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(-1, 3, 3)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turned = (rotation @ full @ rotation.T).reshape(-1, 9)[:, [0, 4, 8, 5, 2, 1]]
    assert correlate_elements(turned, 30) == pytest.approx(correlate_elements(series, 30))
    by_hand = [
        np.mean([np.sum(a * b) for a, b in zip(full, full[k:], strict=False)]) for k in (0, 7)
    ]
    assert correlate_elements(series, 30)[[0, 7]] == pytest.approx(by_hand)


def test_a_run_folder_is_read_by_stage(tmp_path: Path):
    series = stress(9000, 3)
    whole = viscosity(series[4000:], INTERVAL, VOLUME, TEMPERATURE, 1.0, n_blocks=5)
    with open(tmp_path / "pressure.dat", "w", encoding="utf-8") as file:
        file.write(header(pressure_columns(), 15))
        for k, tensor in enumerate(series):
            moment = Moment(k, 1 if k < 3000 else 2, round(k * INTERVAL, 9))
            sample = Sample(0.0, 0.0, 0.0, TEMPERATURE, tensor=tuple(tensor * BAR))
            file.write(format_row(pressure_row(moment, sample), width=15, digits=12))
    rows = [f"{k} {1 if k < 3000 else 2} {k * INTERVAL} {300} {8000 + (k < 3000) * k}\n"
            for k in range(0, 9000, 10)]  # fmt: skip
    names = "# step stage time[ps] temperature[K] volume[A^3]\n"
    (tmp_path / "statistics.dat").write_text(names + "".join(rows))
    found = viscosity_of_run(tmp_path, skip=10.0, max_time=1.0, n_blocks=5)
    assert found.value == pytest.approx(whole.value, rel=1e-6)
    with pytest.raises(ConfigError, match="constant volume in stage 1, got that of npt"):
        viscosity_of_run(tmp_path, stage=1)
    with pytest.raises(ConfigError, match="samples of stage 3"):
        viscosity_of_run(tmp_path, stage=3)
    (tmp_path / "pressure.dat").unlink()
    with pytest.raises(ConfigError, match="pressure_interval"):
        viscosity_of_run(tmp_path)


def test_what_cannot_be_evaluated_is_said():
    with pytest.raises(ConfigError, match="at least two times max_time"):
        viscosity(stress(1000), INTERVAL, VOLUME, TEMPERATURE, 2.0)
    with pytest.raises(ConfigError, match=r"\[n, 6\]"):
        viscosity(np.zeros((1000, 9)), INTERVAL, VOLUME, TEMPERATURE)
    with pytest.raises(ConfigError, match="finite"):
        viscosity(np.full((1000, 6), np.nan), INTERVAL, VOLUME, TEMPERATURE)
    # a time derivative: its integral is zero but for noise
    rate = np.diff(np.random.default_rng(2).normal(size=(4001, 6)), axis=0)
    with pytest.raises(SimulationError, match="noise"):
        viscosity(rate, INTERVAL, VOLUME, TEMPERATURE, 1.0)
