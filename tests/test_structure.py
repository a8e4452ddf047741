"""Structure against MDAnalysis, crystals and boxes made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hff_ase.dynamics.observables.clusters import (
    cluster_statistics,
    clusters_of,
    ions_by_cluster,
)
from hff_ase.dynamics.observables.contacts import find_contacts
from hff_ase.dynamics.observables.distributions import (
    angle_density,
    angles_of_frames,
    charge_histograms,
    mean_angle,
    mean_charges,
)
from hff_ase.dynamics.observables.kirkwood_buff import (
    factor_of_mixture,
    factor_of_salt,
    kirkwood_buff,
)
from hff_ase.dynamics.observables.means import function_of_means
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.rdf import first_minimum, pair_distributions
from hff_ase.dynamics.observables.solvation import (
    coordination_numbers,
    preferences,
    residence_time,
    shell_compositions,
    speciation,
)
from hff_ase.dynamics.observables.structure_factor import _peak, direct, faber_ziman, form_factors
from hff_ase.dynamics.observables.topology import Topology, make_topology
from hff_ase.dynamics.observables.trajectory import Trajectory, chunks
from hff_ase.errors import ConfigError

EDGE = 14.0


def sites(symbols: list[str]) -> Topology:
    """Every atom a molecule of its own."""
    return make_topology(symbols, np.arange(len(symbols)), symbols, np.ones(len(symbols)))


def boxed(positions: np.ndarray, topology: Topology, edge: float = EDGE) -> Trajectory:
    n = len(positions)
    cells = np.repeat(edge * np.eye(3)[None], n, axis=0)
    return Trajectory(positions, cells, np.arange(n) * 1.0, topology)


def test_distributions_are_those_of_mdanalysis():
    mda = pytest.importorskip("MDAnalysis")
    from MDAnalysis.analysis.rdf import InterRDF

    rng = np.random.default_rng(0)
    symbols = ["O"] * 40 + ["H"] * 60
    positions = rng.uniform(0, EDGE, (6, 100, 3)).astype(np.float32).astype(float)
    found = pair_distributions(
        chunks(boxed(positions, sites(symbols)), 4), ["O-H", "O-O"], 6.0, 0.1
    )
    universe = mda.Universe.empty(100, trajectory=True)
    box = np.tile([EDGE, EDGE, EDGE, 90, 90, 90], (6, 1)).astype(np.float32)
    universe.load_new(positions.astype(np.float32), dimensions=box)
    o, h = universe.atoms[:40], universe.atoms[40:]
    theirs = InterRDF(o, h, nbins=60, range=(0.0, 6.0)).run().results
    np.testing.assert_allclose(found.g["O-H"], theirs.rdf, atol=1e-6)
    # their mean number within r, from their counts
    number = np.cumsum(theirs.count) / 6 / 40
    np.testing.assert_allclose(found.coordination["O-H"], number, atol=1e-6)
    same = InterRDF(o, o, nbins=60, range=(0.0, 6.0), exclusion_block=(1, 1)).run().results
    np.testing.assert_allclose(found.g["O-O"], same.rdf, atol=1e-6)
    assert np.isfinite(found.error["O-H"]).all()
    with pytest.raises(ConfigError, match="expected pairs of the elements"):
        pair_distributions([boxed(positions, sites(symbols))], ["Li-O"])


def test_first_minimum_of_a_peak():
    r = np.arange(0.01, 8, 0.02)
    g = 1 + 6 * np.exp(-(((r - 2.0) / 0.2) ** 2)) - 0.9 * np.exp(-(((r - 2.9) / 0.3) ** 2))
    assert first_minimum(r, g) == pytest.approx(2.9, abs=0.06)
    with pytest.raises(ConfigError, match="expected a peak"):
        first_minimum(r, np.zeros_like(r))


def rock_salt(n: int = 4, a: float = 5.0) -> tuple[np.ndarray, list[str], float]:
    """NaCl [8 n^3, 3]."""
    cells = np.array(list(np.ndindex(n, n, n)))
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    na = (cells[:, None] + basis).reshape(-1, 3) * a
    cl = na + np.array([0.5 * a, 0, 0])
    symbols = ["Na"] * len(na) + ["Cl"] * len(cl)
    return np.concatenate([na, cl]), symbols, n * a


def test_bragg_peaks_of_a_crystal():
    positions, symbols, edge = rock_salt()
    trajectory = boxed(positions[None], sites(symbols), edge)
    q, s = direct(trajectory, 3.0, "neutron", bin_width=1e-4)
    na, cl = (form_factors(kind, np.zeros(1), "neutron")[0] for kind in ("Na", "Cl"))
    n, mean, square = len(symbols), 0.5 * (na + cl), 0.5 * (na**2 + cl**2)
    unit = 2 * np.pi / 5.0
    for name, length, amplitude in (
        ("111", math.sqrt(3), 0.5 * (na - cl)),  # odd: sodium against chloride
        ("200", 2.0, 0.5 * (na + cl)),
    ):
        peak = s[np.abs(q - length * unit).argmin()]
        assert peak == pytest.approx(1 + (n * amplitude**2 - square) / mean**2, rel=1e-6), name
    between = s[(np.abs(q - 1.5 * unit) < 0.05)]
    np.testing.assert_allclose(between, 1 - square / mean**2, atol=1e-8)  # no diffuse scattering


def without_overlap(n: int, edge: float, apart: float, rng: np.random.Generator) -> np.ndarray:
    """Points [n, 3] put down one after another, none nearer than ``apart`` to another."""
    points: list[np.ndarray] = []
    while len(points) < n:
        new = rng.uniform(0, edge, 3)
        if points:
            delta = np.array(points) - new
            delta -= edge * np.round(delta / edge)
            if (np.sum(delta**2, axis=1) < apart**2).any():
                continue
        points.append(new)
    return np.array(points)


def test_structure_factor_from_distributions_is_that_of_the_direct_sum():
    rng = np.random.default_rng(1)
    edge, symbols = 16.8, ["O", "S"] * 75
    positions = np.stack([without_overlap(150, edge, 2.4, rng) for _ in range(8)])
    trajectory = boxed(positions, sites(symbols), edge)
    pairs = ["O-O", "O-S", "S-S"]
    found = pair_distributions([trajectory], pairs, reach=16.0, width=0.04)
    for radiation in ("xray", "neutron"):
        q, exact = direct(trajectory, 5.0, radiation, bin_width=0.25)
        ours = faber_ziman(found, {"O": 75, "S": 75}, q, radiation)
        far = (q > 2.0) & (q < 5.0)
        assert np.abs(ours - exact)[far].mean() < 0.15
        assert np.corrcoef(ours[far], exact[far])[0, 1] > 0.9
    with pytest.raises(ConfigError, match="expected g of"):
        faber_ziman(found, {"O": 75, "S": 75, "H": 1}, np.array([1.0]))
    assert form_factors("O", np.zeros(1))[0] == pytest.approx(8.0, abs=0.01)
    assert form_factors("H", np.zeros(1), "neutron")[0] < 0
    with pytest.raises(ConfigError, match="xray or neutron"):
        form_factors("O", np.zeros(1), "light")


def solution() -> Topology:
    """Four lithium ions, three FSI-like anions of two oxygens, two solvents of one oxygen."""
    symbols = ["Li"] * 4 + ["O", "O"] * 3 + ["O"] * 2
    molecule = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 8]
    species = ["Li"] * 4 + ["FSI"] * 3 + ["DMC"] * 2
    charges = [1.0] * 4 + [-1.0] * 3 + [0.0] * 2
    return make_topology(symbols, molecule, species, np.ones(12), charges)


def placed() -> np.ndarray:
    """One ion free, one in a pair, two that share an anion."""
    p = np.zeros((12, 3))
    p[0], p[1], p[2], p[3] = [2, 2, 2], [12, 2, 2], [2, 12, 2], [6, 12, 2]
    p[4], p[5] = [14, 2, 2], [12, 4, 2]  # both oxygens of one anion at ion 1: still a pair
    p[6], p[7] = [4, 12, 2], [4, 14, 2]  # one oxygen between ions 2 and 3
    p[8], p[9] = [10, 10, 12], [11, 10, 12]  # alone
    p[10], p[11] = [2, 2, 24 - 0.2], [2, 4, 2]  # both solvents at ion 0, one through the boundary
    return p


@pytest.mark.parametrize("by", ["components", "counting"])
def test_pairs_and_aggregates_of_a_box_made_by_hand(by):
    trajectory = boxed(np.repeat(placed()[None], 30, 0), solution(), 24.0)
    contacts = find_contacts([trajectory], "Li", {"O": 2.5})
    found = speciation(contacts, ["FSI"], by)
    np.testing.assert_array_equal(found.states[0], [0, 1, 2, 2])
    assert found.fractions["AGG"].value == pytest.approx(0.5)
    assert found.clusters == {(1, 0): 1.0, (1, 1): 1.0, (2, 1): 1.0, (0, 1): 1.0}
    numbers = coordination_numbers(contacts)
    assert numbers["FSI"].value == pytest.approx(3 / 4)
    assert numbers["DMC"].value == pytest.approx(2 / 4)
    assert contacts.atom_coordination()["O"][0] == pytest.approx(6 / 4)
    shells = shell_compositions(contacts)
    assert shells == {"1 FSI": 0.75, "2 DMC": 0.25}
    ratio = preferences([contacts], ["DMC", "FSI"])
    assert ratio["DMC"].value == pytest.approx((2 / 5) / (2 / 5))
    clusters = clusters_of(contacts, ["FSI"])  # Li, Li FSI, Li2 FSI, FSI
    sizes = cluster_statistics([clusters])
    assert sizes["mean"].value == pytest.approx(7 / 4)
    assert sizes["of_an_ion"].value == pytest.approx((1 + 4 + 9 + 1) / 7)
    assert sizes["largest"].value == pytest.approx(3 / 7)
    shares = ions_by_cluster([clusters], ("Li", "FSI"))
    assert shares["2 Li + 1 FSI"] == pytest.approx(3 / 7)
    assert sum(shares.values()) == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="components or counting"):
        speciation(contacts, ["FSI"], "guess")
    with pytest.raises(ConfigError, match="expected one of Li, FSI, DMC"):
        speciation(contacts, ["PF6"], by)


def test_both_ways_of_sorting_agree_on_random_boxes():
    rng = np.random.default_rng(2)
    positions = rng.uniform(0, 9.0, (200, 12, 3))
    contacts = find_contacts([boxed(positions, solution(), 9.0)], "Li", {"O": 3.0})
    one, other = (speciation(contacts, ["FSI"], by).states for by in ("components", "counting"))
    np.testing.assert_array_equal(one, other)
    assert set(np.unique(one)) == {0, 1, 2}


def test_residence_time_of_contacts_that_open_at_random():
    """Pairs that open and seldom close again, at constant rates: <h h>/<h> = exp(-(k1 + k2) t)."""
    rng, n, m = np.random.default_rng(3), 4000, 27
    leave, come = 0.04, 0.0008
    state = np.zeros((n, m), dtype=bool)
    for k in range(1, n):
        draw = rng.uniform(size=m)
        state[k] = np.where(state[k - 1], draw > leave, draw < come)
    topology = make_topology(
        ["Li"] * m + ["O"] * m, np.arange(2 * m), ["Li"] * m + ["DMC"] * m, np.ones(2 * m)
    )
    base = np.array(list(np.ndindex(3, 3, 3))) * 8.0
    positions = np.zeros((n, 2 * m, 3))
    positions[:, :m] = base
    positions[:, m:] = base + np.where(state, 2.0, 3.9)[..., None] * np.array([0.0, 1.0, 0.0])
    contacts = find_contacts(chunks(boxed(positions, topology, 24.0), 500), "Li", {"O": 2.5})
    found = residence_time(contacts, "DMC", 1.0)
    exact = 1 / (leave + come)
    assert abs(found.value - exact) < 3 * found.error + 1.0
    assert 0.02 < found.relative_error < 0.4
    short = residence_time(
        find_contacts([boxed(positions[:60], topology, 24.0)], "Li", {"O": 2.5}), "DMC", 1.0
    )
    assert short.refused


def test_kirkwood_buff_of_ideal_mixtures_is_zero():
    rng = np.random.default_rng(4)
    symbols = ["A"] * 150 + ["B"] * 250
    edge = 20.0
    positions = rng.uniform(0, edge, (80, 400, 3))
    found = pair_distributions(
        [boxed(positions, sites(symbols), edge)], ["A-A", "A-B", "B-B"], reach=10.0, width=0.05
    )
    g = {pair: kirkwood_buff(found, pair) for pair in found.g}
    for pair, one in g.items():
        assert abs(one.value) < 3.5 * one.error, pair
    density = {kind: symbols.count(kind) / edge**3 for kind in "AB"}
    factor = factor_of_mixture(g["A-A"], g["B-B"], g["A-B"], density["A"], density["B"])
    assert abs(factor.value - 1.0) < 3.5 * factor.error
    assert factor.error < 0.2
    with pytest.raises(ConfigError, match="within half the box"):
        kirkwood_buff(found, "A-A", reach=12.0)


def test_weight_of_the_finite_sphere_finds_the_integral_of_an_open_one():
    """A function that rings and decays, whose integral is known; plain truncation misses it."""
    rng = np.random.default_rng(5)
    found = pair_distributions(
        [boxed(rng.uniform(0, 60, (3, 2, 3)), sites(["A", "B"]), 60.0)], ["A-B"], 30.0, 0.02
    )
    r = found.distance
    h = np.cos(2.5 * r) * np.exp(-r / 6.0)
    k, w = 1 / 6.0, 2.5
    exact = 4 * np.pi * 2 * np.real(1 / (k - 1j * w) ** 3)
    big = 1e9  # no correction for the box
    flat = type(found)(
        r, found.edges, {"A-B": 1 + h}, {"A-B": np.tile(1 + h, (3, 1))}, {"A-B": 0 * h},
        {"A-B": 0 * h}, {"A-B": 0.0}, {"A-B": (1, int(big))}, 60.0**3 * big, 10,
    )  # fmt: skip
    value = kirkwood_buff(flat, "A-B", 29.0).value
    plain = np.sum(4 * np.pi * r**2 * h * 0.02)
    assert abs(value - exact) < 0.3 * abs(plain - exact)


def test_factor_of_a_salt_at_infinite_dilution_is_one():
    # Debye: 2 rho_salt G_+- = 1, and nothing of the solvent
    density = 1e-6
    pair = Observable(1 / (2 * density), 1.0, "A^3", "", 50.0)
    solvent = Observable(-50.0, 1.0, "A^3", "", 50.0)
    assert factor_of_salt(pair, solvent, density).value == pytest.approx(1.0, abs=2e-4)


def test_histograms_of_charges_and_angles():
    rng = np.random.default_rng(6)
    symbols = np.array(["Li", "O", "O"])
    charges = np.stack([rng.normal(q, 0.01, 500) for q in (0.6, -0.4, -0.5)], axis=1)
    state = np.tile([0], (500, 1))
    found = charge_histograms(charges, symbols, np.linspace(-1, 1, 201))
    assert found.mean["Li"] == pytest.approx(0.6, abs=0.002)
    assert np.sum(found.histogram["O"]) * 0.01 == pytest.approx(1.0)
    sorted_ = charge_histograms(
        charges, symbols, np.linspace(-1, 1, 201), {"Li": (state, ("SSIP", "CIP"))}
    )
    assert sorted_.mean["Li SSIP"] == pytest.approx(0.6, abs=0.002)
    assert "Li CIP" not in sorted_.mean
    right = np.array([[[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0], [-1.0, 0, 0]]])
    trajectory = boxed(right + 5, sites(["Li", "O", "O", "O"]))
    frames = angles_of_frames([trajectory], "O", "Li", "O", 1.5, 1.5)
    np.testing.assert_allclose(sorted(frames[0]), [90, 90, 180])
    assert mean_angle([frames * 30]).value == pytest.approx(120)
    angles, density = angle_density(frames, n_bins=18)
    peaks = angles[density > 0]
    assert pytest.approx(peaks[0], abs=10) == 90
    assert pytest.approx(peaks[-1], abs=10) == 180
    with pytest.raises(ConfigError, match="none within reach"):
        mean_angle([angles_of_frames([trajectory], "O", "Li", "O", 0.5, 0.5)])


def test_mean_charges_of_states_that_come_and_go():
    rng, pulls, errors = np.random.default_rng(8), [], []
    for _ in range(40):
        state = rng.integers(0, 2, (400, 6))
        charges = 0.7 + 0.1 * state + rng.normal(0, 0.02, (400, 6))
        states = {"Li": (state, ("SSIP", "CIP", "AGG"))}
        found = mean_charges([(charges, states)], np.array(["Li"] * 6))
        assert set(found) == {"Li", "Li SSIP", "Li CIP"}
        for name, exact in (("Li SSIP", 0.7), ("Li CIP", 0.8)):
            pulls.append(abs(found[name].value - exact) / found[name].error)
            errors.append(found[name].error)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(0.02 / np.sqrt(1200), rel=0.3)
    assert 0.55 < np.mean(np.array(pulls) < 1.0) < 0.85


def test_error_of_a_ratio_knows_that_its_parts_move_together():
    rng = np.random.default_rng(9)
    x, y = rng.normal(10, 1, 2000), rng.normal(5, 1, 2000)

    def ratio(means: np.ndarray) -> float:
        return float(means[0] / means[1])

    apart = function_of_means(ratio, [np.stack([x, y], axis=1)])
    assert apart.value == pytest.approx(x.mean() / y.mean())
    exact = 2.0 * np.sqrt((1 / 10) ** 2 + (1 / 5) ** 2) / np.sqrt(2000)
    assert apart.error == pytest.approx(exact, rel=0.5)
    together = function_of_means(ratio, [np.stack([2 * y, y], axis=1)])
    assert together.value == pytest.approx(2.0)
    assert together.error < 1e-6
    with pytest.raises(ConfigError, match="expected means"):
        function_of_means(ratio, [np.zeros((30, 2))])


def test_place_of_a_peak_between_samples():
    q = np.arange(0.8, 4.0, 0.02)
    place, height = _peak(q, 1.0 + 0.7 * np.exp(-((q - 1.737) ** 2) / 0.08))
    assert place == pytest.approx(1.737, abs=1e-3)
    assert height == pytest.approx(1.7, abs=1e-3)
