"""Errors of means and starts of equilibrated runs, against series whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from synthetic import KERNELS, integrated_time, series_of

from hff_ase.dynamics.observables.correlation import autocovariance, integrated_correlation
from hff_ase.dynamics.observables.equilibration import detect_equilibration, equilibration_time
from hff_ase.dynamics.observables.observable import Observable, combine
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.errors import ConfigError


def binomial(n: int, p: float) -> float:
    """Three standard deviations of a share of n."""
    return 3.0 * math.sqrt(p * (1 - p) / n)


def test_autocovariance_is_that_of_the_definition():
    x = np.random.default_rng(0).normal(size=57)
    d = x - x.mean()
    expected = [np.mean(d[: len(d) - k] * d[k:]) for k in range(20)]
    np.testing.assert_allclose(autocovariance(x, 20), expected, atol=1e-13)


@pytest.mark.parametrize("name", KERNELS)
def test_correlation_time_of_long_runs_is_exact(name):
    rng, time = np.random.default_rng(1), integrated_time(KERNELS[name])
    series = series_of(KERNELS[name], 40_000, 8, rng)
    found = integrated_correlation(list(series))
    # the window leaves (2 W + 1)/n of variance in the estimate, and a power law some of its tail
    assert found.time == pytest.approx(time, rel=3.5 / math.sqrt(found.dof / 2) + 0.05)
    assert found.samples == pytest.approx(series.size / (2 * found.time))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("length", [100, 400])
def test_intervals_hold_the_truth_as_often_as_they_say(name, length):
    """Runs of ``length`` integrated correlation times, 200 of them."""
    rng = np.random.default_rng(2)
    n = max(int(length * integrated_time(KERNELS[name])), 16)
    found = [mean_with_error(one) for one in series_of(KERNELS[name], n, 200, rng)]
    kept = [one for one in found if not one.refused]
    assert len(kept) > 150
    for level, low, high in ((0.6827, 0.60, 0.76), (0.95, 0.90, 0.98)):
        ends = np.array([one.interval(level) for one in kept])
        share = np.mean((ends[:, 0] < 0) & (ends[:, 1] > 0))
        slack = 2 * math.sqrt(level * (1 - level) / len(kept))  # 200 runs are 200 runs
        assert low - slack < share < high + slack


@pytest.mark.parametrize("n_replicas", [4, 8])
@pytest.mark.parametrize("length", [4, 60])
def test_replicas_are_honest_even_where_each_is_short(n_replicas, length):
    rng, kernel = np.random.default_rng(3), KERNELS["two exponentials"]
    n = int(length * integrated_time(kernel))
    series = series_of(kernel, n, 200 * n_replicas, rng).reshape(200, n_replicas, n)
    found = [mean_with_error(one) for one in series]
    assert not any(one.refused for one in found)
    for level in (0.6827, 0.95):
        ends = np.array([one.interval(level) for one in found])
        share = np.mean((ends[:, 0] < 0) & (ends[:, 1] > 0))
        assert abs(share - level) < binomial(200, level) + 0.02


def test_runs_that_are_too_short_get_no_error_but_a_verdict():
    time = 50.0
    rng = np.random.default_rng(4)
    runs = series_of(lambda t: np.exp(-t / time), int(4 * time), 100, rng)
    found = [mean_with_error(one, interval=0.5, unit="K") for one in runs]
    refused = [one for one in found if one.refused]
    assert len(refused) >= 80  # four correlation times can look like many, but seldom
    for one in refused:
        assert math.isnan(one.error)
        assert one.needs > 1
        assert one.verdict().startswith("not converged: the run has about")
        assert str(one) == "not known K"
    # a linear drift is nothing but correlation
    drift = mean_with_error(np.linspace(0.0, 1.0, 1000))
    assert drift.refused
    few = mean_with_error([1.0, 2.0, 1.5])
    assert few.refused
    assert "3 samples" in few.verdict()


def test_replicas_stuck_at_different_values_are_found():
    rng = np.random.default_rng(5)
    runs = rng.normal(size=(4, 5000)) + np.array([[0.0], [0.5], [-0.4], [0.1]])
    found = mean_with_error(runs)
    assert "slower than one run" in found.reason
    assert found.error == pytest.approx(runs.mean(axis=1).std(ddof=1) / 2, rel=0.25)
    assert found.dof == 3
    alone = mean_with_error(runs[:2])
    assert alone.refused
    assert "at least 3 replicas" in alone.verdict()


def test_verdict_says_how_much_longer():
    found = Observable(10.0, 1.0, "mPa s", "made up", 50.0)
    assert found.longer(0.05) == pytest.approx(4.0)
    assert found.verdict(0.05) == "not converged: needs about 4.0x longer for 5 %"
    assert found.verdict(0.1) == "converged to 10 %"
    assert str(found) == "10.0 +- 1.0 mPa s"
    low, high = found.interval(0.95)
    assert (high - low) / 2 == pytest.approx(1.96, rel=1e-3)
    few = Observable(10.0, 1.0, "mPa s", "made up", 3.0, dof=2.0)
    low, high = few.interval(0.95)
    assert (high - low) / 2 == pytest.approx(4.3027 / 1.3213, rel=1e-3)  # t tables, 2 dof
    entry = Observable(1.0, math.nan, "", "x", 0.0, reason="too short").as_dict()
    assert entry["error"] is None
    assert entry["verdict"] == "not converged: too short"


def test_error_of_a_quotient_is_that_of_many_draws():
    parts = {"a": Observable(10.0, 0.3, "", "", 1e9), "b": Observable(4.0, 0.1, "", "", 1e9)}
    found = combine(lambda a, b: a / b, parts, "", "quotient")
    rng = np.random.default_rng(6)
    draws = rng.normal(10, 0.3, 200_000) / rng.normal(4, 0.1, 200_000)
    assert found.error == pytest.approx(draws.std(), rel=0.02)
    same = combine(lambda a, b: a / b, parts, "", "", correlations={("a", "b"): 1.0})
    assert same.error == pytest.approx(abs(0.3 / 4 - 10 * 0.1 / 16), rel=0.02)


def test_bad_series_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"got nan \(replica 0, row 2\)"):
        mean_with_error([1.0, 2.0, math.nan])
    with pytest.raises(ConfigError, match="for each replica"):
        mean_with_error(np.zeros((2, 3, 4)))
    with pytest.raises(ConfigError, match="for each replica"):
        mean_with_error([])


@pytest.mark.parametrize("relaxation", [50, 500])
def test_start_is_where_the_relaxation_is_over(relaxation):
    rng, n = np.random.default_rng(7), 10_000
    noise = series_of(lambda t: np.exp(-t / 5.0), n, 20, rng)
    starts = [equilibration_time(one + 10 * np.exp(-np.arange(n) / relaxation)) for one in noise]
    # 10 exp(-t/tau) has fallen to the noise of the mean, 0.03, after about six tau
    assert 2.5 * relaxation < np.median(starts) < 9 * relaxation
    still = [equilibration_time(one) for one in noise]
    assert np.median(still) < 0.2 * n


def test_start_agrees_with_pymbar():
    timeseries = pytest.importorskip("pymbar.timeseries")
    rng, n = np.random.default_rng(8), 4000
    noise = series_of(lambda t: np.exp(-t / 4.0), n, 12, rng)
    starts, ratios = [], []
    for one in noise:
        series = one + 5 * np.exp(-np.arange(n) / 120.0)
        start, inefficiency, _ = timeseries.detect_equilibration(series, nskip=20)
        starts.append((equilibration_time(series), start))
        ratios.append(2 * integrated_correlation([series[start:]]).time / inefficiency)
    ours, theirs = np.median(starts, axis=0)
    assert abs(ours - theirs) < 0.05 * n
    assert np.median(ratios) == pytest.approx(1.0, abs=0.3)


def test_settled_runs_are_told_from_drifting_ones():
    rng, n = np.random.default_rng(9), 4000
    noise = series_of(lambda t: np.exp(-t / 5.0), n, 100, rng)
    settled = [detect_equilibration(one).settled for one in noise]
    assert np.mean(settled) > 0.9
    ramp = np.linspace(0.0, 3.0, n)
    assert np.mean([detect_equilibration(one + ramp).settled for one in noise[:60]]) < 0.15
    slow = 5 * np.exp(-np.arange(n) / 3000.0)
    assert np.mean([detect_equilibration(one + slow).settled for one in noise[:60]]) < 0.2
    groups = noise.reshape(25, 4, n)
    assert np.mean([detect_equilibration(group).settled for group in groups]) > 0.9
    apart = groups[0] + np.array([[0.0], [1.0], [0.0], [0.0]])
    found = detect_equilibration(apart)
    assert not found.settled
    assert "replicas differ" in found.reason
    assert found.start == max(found.starts)


def test_constant_series_have_settled():
    assert equilibration_time(np.ones(100)) == 0
    assert detect_equilibration(np.ones(100)).settled
    assert not detect_equilibration([np.ones(100), np.zeros(100)]).settled
