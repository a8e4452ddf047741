"""Properties of runs and of trajectories of other programs: numbers of known answer, refusals."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read, write
from toy_md import argon
from toy_replicas import calculator, config
from toy_walks import DIFFUSION, EDGE, INTERVAL, N_EACH, write_walk, write_xtc
from typer.testing import CliRunner

from hff_ase.cli import app
from hff_ase.dynamics.config import Stage
from hff_ase.dynamics.properties import analyse, from_trajectories, read_folder
from hff_ase.dynamics.properties.folders import held_stages
from hff_ase.dynamics.properties.page.render import write_report
from hff_ase.dynamics.properties.plans import PLANS, plans_of
from hff_ase.dynamics.properties.reading import pooled
from hff_ase.dynamics.properties.table import as_dict, lines, read_properties, write_analysis
from hff_ase.dynamics.replicas import ReplicaRun
from hff_ase.errors import ConfigError, HFFError, SimulationError

T = 300.0
CHARGES = {"Li": 1.0, "Cl": -1.0, "Ar": 0.0}
TRANSPORT = ["diffusion", "conductivity", "transference"]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walk")
    return write_walk(folder / "walk.extxyz")


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three replicas of argon, at constant pressure and then at constant volume."""
    folder = tmp_path_factory.mktemp("toy") / "run"
    options = {"statistics_interval": 5, "trajectory_interval": 25, "pressure_interval": 2}
    made = config(
        folder, ["npt:2ps", "nvt-nhc:4ps"], replicas=3, pressure=300, minimize=False, **options
    )
    box = argon(2)
    ReplicaRun.start(made, [box], calculator()).run()
    return folder


def test_transport_of_random_walkers_is_what_they_were_given(walked):
    state = from_trajectories([walked], temperature=T, charges=CHARGES)
    found = analyse([state], TRANSPORT, convergence=False).results[0].quantities
    for kind in N_EACH:
        one = found[f"self_diffusion/{kind}"].found
        low, high = one.interval(0.999)
        assert low < DIFFUSION < high, (kind, str(one))
    n, volume = N_EACH["Li"] + N_EACH["Cl"], EDGE**3
    # e^2 N D / (V kT), independent ions
    exact = 1e23 * units._e * n * (0.1 * DIFFUSION) / (volume * units.kB * T)
    for name in ("conductivity", "conductivity/nernst_einstein"):
        low, high = found[name].found.interval(0.999)
        assert low < exact < high, (name, exact, str(found[name].found))
    # relative to the solvent half; relative to the centre of mass, A = 1 - N m/M on both sides
    masses = {"Li": 6.94, "Cl": 35.45, "Ar": 39.95}
    whole = sum(N_EACH[kind] * mass for kind, mass in masses.items())
    shares = {"solvent": 0.5, "mass": 0.5 * (1 + N_EACH["Li"] * (35.45 - 6.94) / whole)}
    for frame, share in shares.items():
        low, high = found[f"transference_number/Li/{frame}"].found.interval(0.999)
        assert low < share < high, frame
    assert found["conductivity"].found.unit == "mS/cm"


def test_convergence_is_the_same_computation_over_shorter_runs(walked, tmp_path):
    state = from_trajectories([walked], temperature=T, charges=CHARGES)
    own = analyse([state], ["diffusion"]).results[0].quantities["self_diffusion/Ar"]
    assert own.convergence is not None
    assert own.convergence.value[-1] == own.found.value
    assert list(own.convergence.time) == sorted(own.convergence.time)
    half = own.convergence.time.index(
        min(own.convergence.time, key=lambda t: abs(t - own.convergence.time[-1] / 2))
    )
    # the same by reading half of the file
    n = int(0.5 * 1500)
    short = from_trajectories([walked], temperature=T, charges=CHARGES, frames=n)
    again = analyse([short], ["diffusion"], convergence=False).results[0].quantities
    assert again["self_diffusion/Ar"].found.value == pytest.approx(own.convergence.value[half])


def test_replicas_are_pooled_and_shown_one_by_one(tmp_path):
    files = [write_walk(tmp_path / f"{k}.extxyz", 400, seed=k) for k in range(3)]
    state = from_trajectories(files, temperature=T, charges=CHARGES)
    result = analyse([state], ["diffusion"]).results[0]
    own = result.quantities["self_diffusion/Ar"]
    assert result.n_replicas == 3
    assert len(own.replicas) == 3
    alone = from_trajectories(files[1:2], temperature=T, charges=CHARGES)
    single = analyse([alone], ["diffusion"], convergence=False).results[0].quantities
    assert own.replicas[1].value == pytest.approx(single["self_diffusion/Ar"].found.value)
    assert own.found.error < max(one.error for one in own.replicas)


def test_xtc_of_another_program_gives_the_same(walked, tmp_path):
    pytest.importorskip("MDAnalysis")
    file, topology = write_xtc(tmp_path)
    state = from_trajectories([file], topology, temperature=T, charges=CHARGES)
    ours = from_trajectories([walked], temperature=T, charges=CHARGES)
    a, b = (
        analyse([one], ["diffusion"], convergence=False).results[0].quantities
        for one in (state, ours)
    )
    for kind in N_EACH:
        name = f"self_diffusion/{kind}"
        assert a[name].found.value == pytest.approx(b[name].found.value, rel=1e-2)
    # a file that has changed since it was indexed is no concern of the user
    os.utime(file, (1.0, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        from_trajectories([file], topology, temperature=T, charges=CHARGES)


def test_a_truncated_xtc_is_said_with_its_last_whole_frame(tmp_path):
    pytest.importorskip("MDAnalysis")
    file, topology = write_xtc(tmp_path, 60)
    content = file.read_bytes()
    file.write_bytes(content[: int(0.8 * len(content))])
    with pytest.raises(SimulationError, match=r"truncated or damaged after \d+ frames"):
        from_trajectories([file], topology, temperature=T)
    state = from_trajectories([file], topology, temperature=T, charges=CHARGES, frames=40)
    assert analyse([state], ["diffusion"], convergence=False).results[0].n_atoms == 64


def test_what_a_trajectory_is_unfit_for_is_refused_with_the_reason(tmp_path):
    breathing = write_walk(tmp_path / "npt.extxyz", 300, breathing=0.01)
    state = from_trajectories([breathing], temperature=T, charges=CHARGES)
    found = analyse([state], ["density", *TRANSPORT], convergence=False).results[0].quantities
    assert found["density"].found.value > 0
    for name in TRANSPORT:
        assert found[name].found.refused
        assert "a barostat only" in found[name].verdict
    neutral = from_trajectories([breathing], temperature=T, charges=dict.fromkeys(CHARGES, 0.0))
    named = analyse([neutral], ["conductivity"], convergence=False).results[0].quantities
    assert "expected ions" in named["conductivity"].verdict


def test_a_changed_number_of_atoms_and_missing_times_are_said(tmp_path):
    whole = read(write_walk(tmp_path / "a.extxyz", 30), ":")
    write(tmp_path / "b.extxyz", [*whole[:20], whole[20][:-1]])
    state = from_trajectories([tmp_path / "b.extxyz"], temperature=T)
    with pytest.raises(ConfigError, match=r"64 atoms in every frame of b\.extxyz, got 63"):
        analyse([state], ["diffusion"])
    for atoms in whole:
        atoms.info.clear()
    write(tmp_path / "c.extxyz", whole)
    with pytest.raises(ConfigError, match=r"expected times in c\.extxyz"):
        from_trajectories([tmp_path / "c.extxyz"], temperature=T)
    state = from_trajectories([tmp_path / "c.extxyz"], temperature=T, interval=INTERVAL)
    assert analyse([state], ["diffusion"], convergence=False)


def test_transport_of_a_short_run_is_refused_with_how_much_longer(tmp_path):
    file = write_walk(tmp_path / "short.extxyz", 120)
    state = from_trajectories([file], temperature=T, charges=CHARGES)
    one = analyse([state], ["diffusion"]).results[0].quantities["self_diffusion/Li"]
    assert one.found.refused
    assert "120 frames, at least 200 are needed" in one.verdict
    assert "1.7x longer" in one.verdict
    few = write_walk(tmp_path / "few.extxyz", 80)
    tiny = from_trajectories([few], temperature=T, charges=CHARGES)
    found = analyse([tiny], TRANSPORT, convergence=False).results[0].quantities
    for name, needs in (("self_diffusion/Li", 50 / 39.5), ("conductivity", 100 / 39.5)):
        assert found[name].found.refused
        assert "each run is 39.5 ps long" in found[name].verdict
        assert found[name].found.needs == pytest.approx(needs)
    entry = as_dict(analyse([state], ["diffusion"]))["states"][0]["quantities"]["self_diffusion/Li"]
    assert entry["value"] is None
    assert entry["longer"] == pytest.approx(200 / 120, rel=0.02)


@pytest.mark.parametrize("n_frames", [2, 3, 5])
def test_a_run_that_has_hardly_begun_is_refused_in_words(n_frames, tmp_path):
    file = write_walk(tmp_path / "begun.extxyz", n_frames)
    state = from_trajectories([file], temperature=T, charges=CHARGES)
    found = analyse([state], [*TRANSPORT, "structure"]).results[0].quantities
    assert all(one.found.refused for name, one in found.items() if "/" in name)


def test_production_is_what_follows_the_last_barostat():
    def held(*names: str) -> dict[str, tuple[int, ...]]:
        return held_stages([Stage(name, 1) for name in names])

    assert held("nvt", "npt-scr", "npt", "nvt", "nve") == {"pressure": (2, 3), "volume": (4, 5)}
    assert held("nvt") == {"pressure": (), "volume": (1,)}
    assert held("nvt", "npt") == {"pressure": (2,), "volume": ()}
    assert held("npt", "nvt", "npt") == {"pressure": (3,), "volume": ()}


def test_a_run_of_replicas_gives_bulk_and_transport(toy_run, tmp_path):
    states = read_folder(toy_run)
    assert len(states) == 1
    analysis = analyse(states, ["density", "viscosity", "diffusion", "structure"])
    result = analysis.results[0]
    assert result.n_replicas == 3
    density = result.quantities["density"].found
    # rows of the barostat's stage alone, averaged by hand
    rows = [
        np.loadtxt(toy_run / f"replica-{k:03d}" / "statistics.dat", usecols=(1, 10))
        for k in range(3)
    ]
    means = [own[own[:, 0] == 1, 1][30:].mean() for own in rows]
    assert density.value == pytest.approx(np.mean(means), rel=0.01)
    assert result.quantities["viscosity"].found.refused
    assert "at least 50 ps are needed" in result.quantities["viscosity"].verdict
    g = result.curves["structure"][0].lines["Ar-Ar"]
    assert g.y[g.x < 2.5].max() < 0.05
    written = write_analysis(analysis, tmp_path)
    content = read_properties(tmp_path)
    assert content == json.loads(written.read_text())
    assert content["states"][0]["quantities"]["density"]["value"] == density.value
    assert any("density" in line and "g/cm^3" in line for line in lines(content))


def test_folders_of_one_state_point_are_pooled(toy_run, tmp_path):
    """The same run twice: the same mean, of twice as many replicas; another model is refused."""
    one, other = read_folder(toy_run), read_folder(toy_run)
    (both,) = pooled([one, other])
    assert sorted({stretch.replica for stretch in both.stretches}) == list(range(6))
    alone, together = (
        analyse([state], ["density"], convergence=False).results[0] for state in (*one, both)
    )
    assert together.n_replicas == 2 * alone.n_replicas
    values = [result.quantities["density"].found.value for result in (alone, together)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    changed = replace(other[0], about={**other[0].about, "model": "another.hff"})
    with pytest.raises(ConfigError, match=r"runs of one model to pool as .*another.hff"):
        pooled([one, [changed]])
    elsewhere = replace(other[0], temperature=999.0)
    assert len(pooled([one, [elsewhere]])) == 2
    target = tmp_path / "both"
    arguments = ["analyse", str(toy_run), str(toy_run), "-o", str(target), "--property", "density"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert (target / "properties.json").is_file()


def test_every_plan_names_what_it_needs_and_builds_on_earlier_ones():
    for name, plan in PLANS.items():
        assert plan.held in ("", "pressure", "volume")
        assert set(plan.stored) <= {"rows", "frames", "tensor", "charges", "gas"}
        order = list(PLANS)
        assert all(order.index(one) < order.index(name) for one in plan.before)
    assert list(plans_of(["diffusion", "viscosity"])) == ["viscosity", "diffusion"]
    with pytest.raises(ConfigError, match="expected properties among"):
        plans_of(["colour"])


def test_the_command_writes_json_and_says_what_is_wrong(walked, tmp_path):
    runner = CliRunner()
    arguments = [str(walked), "--temperature", "300", "--property", "diffusion"]
    arguments += [
        "--formal-charges",
        "Li=1",
        "--formal-charges",
        "Cl=-1",
        "--formal-charges",
        "Ar=0",
        "--no-convergence",
    ]
    arguments += ["-o", str(tmp_path), "--no-progress"]
    done = runner.invoke(app, ["analyse", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    assert "self_diffusion/Li" in done.output
    assert read_properties(tmp_path)["states"][0]["temperature[K]"] == 300.0
    assert "viscosity" in runner.invoke(app, ["analyse", "--list"]).output
    # of files nothing goes where a run may have its own
    (walked.parent / "properties.json").write_text("another's", encoding="utf-8")
    done = runner.invoke(app, ["analyse", *arguments[:-3], "--no-progress"], catch_exceptions=False)
    assert str(walked.with_name(f"{walked.stem}-properties") / "properties.json") in done.output
    assert (walked.parent / "properties.json").read_text(encoding="utf-8") == "another's"
    # nothing measured: the table says so, then the plot is refused
    plot = tmp_path / "parity.png"
    done = runner.invoke(app, ["compare", str(tmp_path), "--plot", str(plot)])
    assert "nothing here has a measured value" in done.output
    assert isinstance(done.exception, ConfigError)
    assert not plot.exists()
    for wrong, message in (
        ([str(walked)], "expected --temperature"),
        ([str(walked), "--temperature", "25"], "in Celsius. write 298.15"),
        ([str(tmp_path / "none")], "got no"),
        ([str(tmp_path)], "expected a run of hff md"),
        (
            [str(walked), "--temperature", "300", "--formal-charges", "Li"],
            "--formal-charges: expected a number",
        ),
    ):
        with pytest.raises(HFFError, match=message):
            runner.invoke(app, ["analyse", *wrong], catch_exceptions=False)


def test_structure_of_an_ideal_gas_of_ions_is_none(tmp_path):
    """Charges, clusters, angles, scattering and Kirkwood-Buff integrals through every layer."""
    pytest.importorskip("periodictable")
    rng, n, edge = np.random.default_rng(11), 150, 12.0
    symbols = ["Li"] * 10 + ["F"] * 10 + ["O"] * 30
    base = np.repeat([0.8, -0.9, -0.4], [10, 10, 30])
    frames = []
    for k in range(n):
        atoms = Atoms(symbols, rng.uniform(0, edge, (50, 3)), cell=[edge] * 3, pbc=True)
        atoms.set_initial_charges(base + rng.normal(0, 0.01, 50))
        atoms.info["time_ps"] = 1.0 * k
        frames.append(atoms)
    write(tmp_path / "gas.extxyz", frames)
    state = from_trajectories(
        [tmp_path / "gas.extxyz"], temperature=T, charges={"Li": 1, "F": -1, "O": 0}, wrapped=False
    )
    names = ["scattering", "angles", "clusters", "charges", "kirkwood-buff", "solvation"]
    analysis = analyse([state], names)
    found = {key: one.found for key, one in analysis.results[0].quantities.items()}
    assert all(key.startswith("residence_time") for key, one in found.items() if one.refused)
    for pair in ("Li-Li", "Li-F", "Li-O", "O-O"):
        one = found[f"kirkwood_buff/{pair}"]
        assert abs(one.value) < 4 * one.error, pair
    for name, exact in (("charge/Li", 0.8), ("charge/Li/CIP", 0.8), ("charge/O/bound", -0.4)):
        assert abs(found[name].value - exact) < 4 * found[name].error, name
    assert abs(found["angle/O-Li-O"].value - 90.0) < 4 * found["angle/O-Li-O"].error
    assert 1.0 < found["cluster_size/Li/mean"].value < found["cluster_size/Li/of_an_ion"].value
    write_analysis(analysis, tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for words in ("x-ray S(q)", "Charges of Li by solvation", "Ions by the cluster of Li"):
        assert words in page
