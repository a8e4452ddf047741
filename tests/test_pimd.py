"""Path integrals: exact results for oscillators, inputs that i-PI takes, runs that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms, units
from ase.io import read, write
from conftest import salt_box

from hff_ase.calculators import HybridFF
from hff_ase.dynamics.pimd.config import PIMDConfig
from hff_ase.dynamics.pimd.folder import step_of
from hff_ase.dynamics.pimd.force_fields import driver_path
from hff_ase.dynamics.pimd.input_xml import input_xml, load_start
from hff_ase.dynamics.pimd.pimd_run import PIMDRun
from hff_ase.dynamics.pimd.results import cut_frames, cut_properties, read_properties
from hff_ase.dynamics.pimd.trajectories import write_extended
from hff_ase.errors import ConfigError, SimulationError, StructureError

pytest.importorskip("ipi", reason="path integrals run in i-PI (pip install 'hff-ase[pimd]')")
WELL = """
import torch
from ase import units
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.hff_ipi_driver import HFFDriver
from hff_ase.potential import HybridPotential
from hff_ase.terms.term import Term

__DRIVER_NAME__ = "wells"
__DRIVER_CLASS__ = "Wells"

class Well(Term):
    kind = "well"
    def forward(self, batch, neighbors, fields):
        return 0.5 * {stiffness} * (batch.positions ** 2).sum(1)

class Wells(HFFDriver):
    def load_members(self, names, **options):
        return [HybridFF(HybridPotential({{"well": Well()}}), dtype="float64")]
"""
WAVENUMBER = 3000.0  # 1/cm


@pytest.fixture
def box(tmp_path: Path) -> Path:
    path = tmp_path / "box.extxyz"
    write(path, salt_box())
    return path


def settings(box: Path, model: Path, **others: Any) -> dict[str, Any]:
    """A few steps of four beads, with rows at every step."""
    few = {"beads": 4, "temperature": 50.0, "timestep": 0.25, "time": "5fs"}
    often = {"statistics_interval": 1, "trajectory_interval": 5, "checkpoint_interval": 10,
             "minimize": False}  # fmt: skip
    out = {"structure": str(box), "model": str(model), "output": str(box.parent / "run")}
    return few | often | out | others


def simulate(text: str, folder: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """i-PI in this process, in a folder."""
    from ipi.scripting import InteractiveSimulation

    monkeypatch.chdir(folder)
    simulation = InteractiveSimulation(text)
    simulation.run(steps, write_outputs=True)
    return simulation


def test_oscillators_have_the_exact_energies_of_so_many_beads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_atoms, beads, temperature = 150, 8, 300.0
    rng = np.random.default_rng(0)
    atoms = Atoms(f"H{n_atoms}", 0.1 * rng.normal(size=(n_atoms, 3)))
    start = tmp_path / "start.extxyz"
    write(start, atoms)
    mass = atoms.get_masses()[0]
    quantum = WAVENUMBER * units.invcm  # hbar omega, eV
    hbar = units._hbar / units._e * units.second  # eV in ASE's unit of time
    stiffness = mass * (quantum / hbar) ** 2
    driver = tmp_path / "wells.py"
    driver.write_text(WELL.format(stiffness=float(stiffness)))
    config = PIMDConfig.load({
        "structure": str(start), "model": "electrolyte", "beads": beads, "timestep": 0.25,
        "temperature": temperature, "time": "250fs", "tdamp": 10.0, "statistics_interval": 4,
        "trajectory_interval": 10_000, "checkpoint_interval": 10_000,
    })  # fmt: skip
    text = input_xml(config, load_start(str(start))).replace(str(driver_path()), str(driver))
    # the wells hold their atoms: the centre of mass moves as well
    text = text.replace(
        '<motion mode="dynamics">', '<motion mode="dynamics"><fixcom>False</fixcom>'
    )
    simulate(text, tmp_path, config.n_steps, monkeypatch)
    columns = read_properties(tmp_path / "pimd.properties")
    late = slice(len(columns["step"]) // 4, None)
    # <V> = kT/2 sum_k w^2 / (w^2 + w_k^2), w_k = 2 P kT/hbar sin(k pi/P): exact for P beads
    kT = units.kB * temperature
    modes = 2 * beads * kT * np.sin(np.arange(beads) * np.pi / beads)
    exact = 3 * n_atoms * 0.5 * kT * np.sum(quantum**2 / (quantum**2 + modes**2))
    for name, tolerance in (("potential", 0.02), ("kinetic_cv", 0.02), ("kinetic_td", 0.05)):
        mean = columns[f"{name}{{electronvolt}}"][late].mean()
        assert mean == pytest.approx(exact, rel=tolerance), name
    per_species = columns["kinetic_cv(H){electronvolt}"]
    np.testing.assert_allclose(per_species, columns["kinetic_cv{electronvolt}"], rtol=1e-6)


@pytest.mark.parametrize(
    "others",
    [
        {"ensemble": "npt", "extras": ("charges", "dipole")},
        {"thermostat": "trpmd"},
        {"thermostat": "piglet"},
        {"beads": 1},
    ],
    ids=["npt", "trpmd", "piglet", "classical"],
)
def test_ipi_takes_what_is_written(
    others: dict[str, Any], box: Path, small_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if others.get("thermostat") == "piglet":
        others = others | {"gle": str(matrices(box.parent / "gle.txt", 4))}
    config = PIMDConfig.load(settings(box, small_model_path, **others))
    run = PIMDRun.create(config)
    simulation = simulate(run["input.xml"].read_text(), run.folder, 2, monkeypatch)
    columns = read_properties(run["pimd.properties"])
    assert columns["step"].tolist() == [0, 1, 2]
    expected = salt_box().get_masses().sum() / salt_box().get_volume() * 1.66053907
    assert columns["density{g/cm3}"][0] == pytest.approx(expected, rel=1e-5)
    volumes = columns["volume{angstrom3}"]
    assert (np.ptp(volumes) > 0) == (config.ensemble == "npt")
    assert simulation.syslist[0].beads.nbeads == config.beads
    if config.extras:
        dipole = np.loadtxt(run["pimd.dipole_0"], comments="#")
        assert np.isfinite(dipole).all()


def test_trajectories_for_ase_keep_cell_and_molecules(
    box: Path, small_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triclinic box whose cell moves, with ids of molecules and their names."""
    atoms = read(box)
    shear = np.array([[1.0, 0, 0], [0.1, 1.0, 0], [0, -0.08, 1.0]])
    atoms.set_cell(atoms.cell.array @ shear, scale_atoms=True)
    atoms.set_array("molecule", np.arange(len(atoms)) // 2)
    atoms.info["molecules"] = ["A", "B"]
    write(box, atoms)
    many = settings(box, small_model_path, ensemble="npt", trajectory_interval=1)
    run = PIMDRun.create(PIMDConfig.load(many))
    simulate(run["input.xml"].read_text(), run.folder, 3, monkeypatch)
    raw = read_properties(run["pimd.properties"])["volume{angstrom3}"]
    written = write_extended(run.folder, run.atoms)
    assert [path.name for path in written][:2] == ["pimd.bead_0.extxyz", "pimd.bead_1.extxyz"]
    for path in written:
        frames = read(path, index=":")
        assert [frame.info["step"] for frame in frames] == [0, 1, 2, 3]
        np.testing.assert_allclose([frame.get_volume() for frame in frames], raw, rtol=1e-5)
        last = frames[-1]
        assert last.pbc.all()
        assert last.info["molecules"] == ["A", "B"]
        np.testing.assert_array_equal(last.arrays["molecule"], atoms.arrays["molecule"])
        np.testing.assert_array_equal(last.numbers, atoms.numbers)
        moved = last.get_scaled_positions(wrap=False) - run.atoms.get_scaled_positions(wrap=False)
        assert np.abs(moved).max() < 0.1


def matrices(path: Path, beads: int) -> Path:
    """White noise in the form of a coloured-noise thermostat: 1/ps on every mode."""
    friction = " ".join(["2.4e-5 0 0 2.4e-5"] * beads)
    covariance = " ".join(["50 0 0 50"] * beads)
    path.write_text(
        f"<A shape='({beads}, 2, 2)'>[{', '.join(friction.split())}]</A>\n"
        f"<C shape='({beads}, 2, 2)' units='kelvin'>[{', '.join(covariance.split())}]</C>\n"
    )
    return path


def test_a_heavy_isotope_has_its_mass_and_its_name(box: Path, small_model_path: Path) -> None:
    atoms = salt_box()
    masses = atoms.get_masses()
    masses[5] = 2.014
    atoms.set_masses(masses)
    write(box, atoms, columns=["symbols", "positions", "masses"])
    text = input_xml(PIMDConfig.load(settings(box, small_model_path)), load_start(str(box)))
    assert "kinetic_cv(D)" in text
    assert "kinetic_cv(H)" in text
    assert "2.014000" in text


def test_the_start_is_turned_but_not_changed(tmp_path: Path, small_calculator: Any) -> None:
    atoms = salt_box()
    atoms.rotate(40, (1, 2, 3), rotate_cell=True)
    write(tmp_path / "turned.extxyz", atoms)
    start = load_start(str(tmp_path / "turned.extxyz"))
    cell = np.array(start.cell)
    assert np.abs(cell[np.triu_indices(3, 1)]).max() < 1e-12
    np.testing.assert_allclose(start.get_all_distances(mic=True), atoms.get_all_distances(mic=True))
    energies = []
    for structure in (atoms, start):
        structure.calc = small_calculator
        energies.append(structure.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-6)


def launch(run: PIMDRun) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from hff_ase.dynamics.pimd.pimd_run import PIMDRun; "
        "PIMDRun.open(sys.argv[1]).run(progress=False)"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(run.folder)], stderr=subprocess.PIPE)


def wait_for_step(run: PIMDRun, step: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while run.files.last_row().get("step", -1) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def ipi_processes(run: PIMDRun, words: str) -> list[int]:
    """Processes that work in the folder of the run."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                here = os.readlink(folder / "cwd") == str(run.folder.resolve())
                if here and words in (folder / "cmdline").read_text().replace("\0", " "):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


@pytest.mark.slow  # four processes that each import torch
def test_killed_and_resumed_from_its_checkpoint(box: Path, small_model_path: Path) -> None:
    config = PIMDConfig.load(settings(box, small_model_path, time="200fs"))
    run = PIMDRun.create(config)
    process = launch(run)
    wait_for_step(run, 25, process)
    process.kill()
    process.wait()
    # i-PI goes on, and keeps the folder
    with pytest.raises(SimulationError, match="another process is running"):
        PIMDRun.open(run.folder).run(progress=False)
    for number in ipi_processes(run, "i-pi"):
        os.kill(number, signal.SIGKILL)
    time.sleep(1.0)
    reached = max(step for n in "ab" if (step := step_of(run[f"pimd.checkpoint_{n}"])))
    assert 20 <= reached < config.n_steps
    summary = PIMDRun.open(run.folder).run(progress=False)
    assert summary["status"] == "finished"
    assert summary["wall_time[s]"] > 0
    columns = read_properties(run["pimd.properties"])
    assert columns["step"].tolist() == list(range(config.n_steps + 1))
    np.testing.assert_allclose(columns["conserved{electronvolt}"].std(), 0, atol=0.5)
    frames = read(run["pimd.centroid.xyz"], index=":", format="xyz")
    assert len(frames) == config.n_steps // 5 + 1


@pytest.mark.slow  # processes that each import torch
@pytest.mark.parametrize("transport", ["socket", "shm"])
def test_a_driver_that_is_killed_is_replaced(
    transport: str, box: Path, small_model_path: Path
) -> None:
    longer = settings(box, small_model_path, time="300fs", transport=transport)
    run = PIMDRun.create(PIMDConfig.load(longer))
    process = launch(run)
    wait_for_step(run, 25, process)
    (driver,) = ipi_processes(run, "i-pi-py_driver")
    os.kill(driver, signal.SIGKILL)
    assert process.wait(180) == 0, process.communicate()
    assert yaml.safe_load(run["summary.yaml"].read_text())["status"] == "finished"
    steps = read_properties(run["pimd.properties"])["step"]
    assert steps.tolist() == list(range(run.config.n_steps + 1))


def test_broken_ends_of_files_are_cut(tmp_path: Path) -> None:
    properties = tmp_path / "pimd.properties"
    head = "# column   1     --> step : a\n# column   2     --> time{picosecond} : b\n"
    properties.write_text(head + "  0 0.0\n  1 0.1\n  2 0.2\n  1 0.15\n  3 0.")
    assert read_properties(properties)["time{picosecond}"].tolist() == [0.0, 0.15, 0.2, 0.0]
    cut_properties(properties, 1)
    assert read_properties(properties)["step"].tolist() == [0, 1]
    assert properties.read_text().endswith("0.15\n")
    frames = tmp_path / "pimd.centroid.xyz"
    frame = "1\n# CELL(abcABC): 1 1 1 90 90 90 Step: {} Bead: 0\nH 0 0 0\n"
    frames.write_text(frame.format(0) + frame.format(5) + frame.format(10) + "1\n# CELL")
    cut_frames(frames, 5)
    assert frames.read_text() == frame.format(0) + frame.format(5)


def test_what_is_refused(box: Path, small_model_path: Path, tmp_path: Path) -> None:
    given = settings(box, small_model_path)
    with pytest.raises(ConfigError, match="beads"):
        PIMDConfig.load(given | {"beads": 0})
    with pytest.raises(ConfigError, match="expected a file of matrices with the thermostat piglet"):
        PIMDConfig.load(given | {"thermostat": "piglet"})
    with pytest.raises(ConfigError, match="expected ensemble nvt with the thermostat trpmd"):
        PIMDConfig.load(given | {"thermostat": "trpmd", "ensemble": "npt"})
    with pytest.raises(ConfigError, match="expected a positive time"):
        PIMDConfig.load(given | {"time": "5"})
    with pytest.raises(ConfigError, match="colour"):
        PIMDConfig.load(given | {"colour": "red"})
    wrong = matrices(tmp_path / "gle.txt", 3)
    piglet = PIMDConfig.load(given | {"thermostat": "piglet", "gle": str(wrong)})
    with pytest.raises(ConfigError, match=r"shape \(4, n, n\) for 4 beads, got \(3, 2, 2\)"):
        PIMDRun.create(piglet)
    write(tmp_path / "na.xyz", Atoms("Na"))
    with pytest.raises(StructureError, match="structure holds Na"):
        PIMDRun.create(PIMDConfig.load(given | {"structure": str(tmp_path / "na.xyz")}))
    with pytest.raises(SimulationError, match="expected a folder with a run"):
        PIMDRun.open(tmp_path / "nowhere")
    run = PIMDRun.create(PIMDConfig.load(given))
    with pytest.raises(SimulationError, match="without a run"):
        PIMDRun.create(run.config)
    PIMDRun.create(run.config, force=True)


def test_the_start_is_relaxed_as_that_of_other_runs(box: Path, small_model_path: Path) -> None:
    calc = HybridFF.load(small_model_path)

    def energy(path: Path) -> float:
        return float(calc.evaluate([load_start(str(path))])[0]["energy"])

    given = settings(box, small_model_path) | {"minimize": True, "minimize_steps": 8}
    run = PIMDRun.create(PIMDConfig.load(given))
    assert energy(run["start.extxyz"]) < energy(box) - 1e-3
    again = PIMDRun.open(run.folder)  # what is resumed is not relaxed again
    assert np.allclose(again.atoms.positions, run.atoms.positions, atol=1e-7)
    PIMDRun.create(PIMDConfig.load(given | {"minimize": False}), force=True)
    assert energy(run["start.extxyz"]) == pytest.approx(energy(box), abs=1e-4)


def test_edited_settings_are_not_ignored(box: Path, small_model_path: Path) -> None:
    run = PIMDRun.create(PIMDConfig.load(settings(box, small_model_path)))
    config = run["config.yaml"]
    text = config.read_text()
    config.write_text(text.replace("temperature: 50.0", "temperature: 600.0"))
    with pytest.raises(SimulationError, match="got edited ones"):
        PIMDRun.open(run.folder)
    config.write_text(text)
    assert PIMDRun.open(run.folder).config.temperature == 50.0
