"""Ring-polymer contraction and multiple time steps with a cheap model; several drivers."""

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
from ase.io import write
from ase.units import Bohr, Hartree
from conftest import make_potential, salt_box, water

from hff_ase.calculators import HybridFF
from hff_ase.checkpoint import ModelInfo, save_model
from hff_ase.dynamics.pimd import PIMDConfig, PIMDRun
from hff_ase.dynamics.pimd.force_fields import CORRECTION, INNER
from hff_ase.dynamics.pimd.processes import driver_commands
from hff_ase.dynamics.pimd.results import read_properties
from hff_ase.errors import ConfigError

pytest.importorskip("ipi", reason="path integrals run in i-PI (pip install 'hff-ase[pimd]')")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    path = tmp_path / "box.extxyz"
    write(path, salt_box())
    return path


@pytest.fixture(scope="module")
def cheap_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of random weights, in the place of a cheap one."""
    path = tmp_path_factory.mktemp("model") / "cheap.hff"
    potential = make_potential(seed=3)
    info = ModelInfo("cheap", "random weights", "none", "a test", tuple(potential.terms))
    save_model(path, potential, info, [water()])
    return path


def make_run(box: Path, model: Path, name: str, **others: Any) -> PIMDRun:
    few = {"beads": 6, "temperature": 50.0, "timestep": 0.25, "time": "1fs", "dtype": "float64"}
    often = {"statistics_interval": 1, "trajectory_interval": 5, "checkpoint_interval": 10,
             "minimize": False}  # fmt: skip
    where = {"structure": str(box), "model": str(model), "output": str(box.parent / name)}
    return PIMDRun.create(PIMDConfig.load(few | often | where | others))


def simulated(run: PIMDRun, steps: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """i-PI's simulation after some steps."""
    from ipi.scripting import InteractiveSimulation

    monkeypatch.chdir(run.folder)
    simulation = InteractiveSimulation(Path("input.xml").read_text())
    simulation.run(steps, write_outputs=True)
    return simulation


def simulate(run: PIMDRun, steps: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """i-PI's system after some steps."""
    return simulated(run, steps, monkeypatch).syslist[0]


def direct(path: Path, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies [n] (eV) and forces [n, n_atoms, 3] of a model by the calculator."""
    calculator = HybridFF.load(path, dtype="float64")
    energies, forces = [], []
    for positions in places:
        atoms = salt_box()
        atoms.set_positions(positions)
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    return np.array(energies), np.array(forces)


def contracted(values: np.ndarray, n: int) -> np.ndarray:
    """Values along a ring at fewer (or more) places: the lowest Fourier components, odd n."""
    waves = np.fft.rfft(values, axis=0)
    kept = min(n, len(values)) // 2 + 1
    return np.fft.irfft(waves[:kept], n, axis=0) * (n / len(values))


def test_correction_on_all_beads_is_the_full_model(
    box: Path, small_model_path: Path, cheap_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = {"inner_model": str(cheap_path), "contract": 6}
    ends = []
    for name, others in (("plain", {}), ("split", split)):
        run = make_run(box, small_model_path, name, ensemble="npt", **others)
        system = simulate(run, 4, monkeypatch)
        ends.append((np.array(system.beads.q), np.array(system.forces.f), float(system.forces.pot)))
        ends[-1] += (np.array(system.forces.vir), float(system.cell.V))
    for one, other in zip(*ends, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


def test_correction_on_fewer_beads_is_that_of_the_contracted_ring(
    box: Path, small_model_path: Path, cheap_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(box, small_model_path, "run", inner_model=str(cheap_path), contract=3,
                   extras=("charges",))  # fmt: skip
    system = simulate(run, 3, monkeypatch)
    places = np.array(system.beads.q).reshape(6, -1, 3) * Bohr
    assert np.abs(places - places.mean(axis=0)).max() > 1e-3  # the ring is open
    few = contracted(places, 3)
    full, full_forces = direct(small_model_path, few)
    cheap, cheap_forces = direct(cheap_path, few)
    every, every_forces = direct(cheap_path, places)
    energy = every.sum() + 2 * (full - cheap).sum()
    assert float(system.forces.pot) * Hartree == pytest.approx(energy, rel=1e-6)
    forces = every_forces + contracted(full_forces - cheap_forces, 6)
    found = np.array(system.forces.f).reshape(6, -1, 3) * Hartree / Bohr
    np.testing.assert_allclose(found, forces, atol=1e-5)
    # the charges of the full model, spread over the beads
    atoms = salt_box()
    atoms.calc = HybridFF.load(small_model_path, dtype="float64")
    charges = []
    for positions in few:
        atoms.set_positions(positions)
        charges.append(atoms.get_charges())
    spread = contracted(np.array(charges), 6)
    np.testing.assert_allclose(system.forces.extras["charges"], spread, atol=1e-6)


def test_full_model_acts_once_per_timestep(
    box: Path, small_model_path: Path, cheap_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(box, small_model_path, "run", inner_model=str(cheap_path), contract=2,
                   inner_steps=4, timestep=0.5, time="5fs")  # fmt: skip
    fields = simulated(run, 10, monkeypatch).fflist
    beads = {name: field.driver.forces.n_beads for name, field in fields.items()}
    assert beads == {INNER: 6 * (1 + 4 * 10), CORRECTION: 2 * (1 + 10)}
    energy = read_properties(run["pimd.properties"])["conserved{electronvolt}"]
    one = make_run(box, small_model_path, "one", timestep=0.5, time="5fs")
    simulate(one, 10, monkeypatch)
    plain = read_properties(one["pimd.properties"])["conserved{electronvolt}"]
    assert np.ptp(energy) < 2 * np.ptp(plain) + 1e-3


def test_driver_gives_the_difference_of_two_models(
    box: Path, small_model_path: Path, cheap_path: Path
) -> None:
    from hff_ase.dynamics.hff_ipi_driver import HFFDriver

    options = {"template": str(box), "dtype": "float64"}
    both = HFFDriver(model=str(small_model_path), minus=str(cheap_path), **options)
    alone = [HFFDriver(model=str(path), **options) for path in (small_model_path, cheap_path)]
    arguments = np.array(salt_box().cell).T / Bohr, salt_box().positions / Bohr
    found, full, cheap = (driver(*arguments) for driver in (both, *alone))
    for index in range(3):
        np.testing.assert_allclose(found[index], full[index] - cheap[index], atol=1e-11)


def start(arguments: list[str], folder: Path, name: str) -> subprocess.Popen[bytes]:
    with open(folder / name, "wb") as out:
        return subprocess.Popen(arguments, cwd=folder, stdout=out, stderr=subprocess.STDOUT)


@pytest.mark.slow  # processes that each import torch
@pytest.mark.parametrize("transport", ["socket", "shm"])
def test_two_drivers_share_a_socket(
    transport: str, box: Path, small_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make_run(box, small_model_path, "alone", time="2fs")
    alone.run(progress=False)
    shared = make_run(box, small_model_path, "two", time="2fs", drivers=2, transport=transport)
    assert len(driver_commands(shared.config, shared.address)) == 2
    shared.run(progress=False)
    assert shared["driver_2.log"].exists()
    one, two = (read_properties(run["pimd.properties"]) for run in (alone, shared))
    for name in ("potential{electronvolt}", "kinetic_cv{electronvolt}"):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-7)


@pytest.mark.slow  # processes that each import torch
def test_inner_and_full_model_over_sockets(
    box: Path, small_model_path: Path, cheap_path: Path
) -> None:
    split = {"inner_model": str(cheap_path), "contract": 3, "inner_steps": 2, "time": "2fs"}
    ends = []
    for transport in ("ffdirect", "shm"):
        run = make_run(box, small_model_path, transport, transport=transport, **split)
        assert run.run(progress=False)["status"] == "finished"
        ends.append(read_properties(run["pimd.properties"])["potential{electronvolt}"])
    np.testing.assert_allclose(*ends, rtol=1e-7)


RUN = (
    "import sys; from hff_ase.dynamics.pimd.pimd_run import PIMDRun; "
    "PIMDRun.open(sys.argv[1]).run(progress=False)"
)


@pytest.mark.slow  # processes that each import torch
def test_a_wrong_batch_size_says_so(box: Path, small_model_path: Path) -> None:
    for transport in ("ffdirect", "socket"):
        run = make_run(box, small_model_path, transport, transport=transport)
        text = run["input.xml"].read_text()
        run["input.xml"].write_text(text.replace(">6</batch_size>", ">4</batch_size>"))
        process = start([sys.executable, "-c", RUN, str(run.folder)], box.parent, "said")
        assert process.wait(60) != 0
        said = (box.parent / "said").read_text()
        assert "expected batches of 6 structures (beads=6), got 4" in said
        assert "SimulationError" in said


@pytest.mark.slow  # processes that each import torch
def test_a_killed_ipi_says_so_and_the_run_can_be_resumed(box: Path, small_model_path: Path) -> None:
    run = make_run(box, small_model_path, "run", transport="socket", time="50fs")
    process = start([sys.executable, "-c", RUN, str(run.folder)], box.parent, "said")
    until = time.monotonic() + 120
    while run.files.last_row().get("step", -1) < 25:
        assert process.poll() is None, (box.parent / "said").read_text()
        assert time.monotonic() < until
        time.sleep(0.05)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_text()
                here = os.readlink(folder / "cwd") == str(run.folder.resolve())
            except OSError:
                continue
            if here and "bin/i-pi\0" in words:
                os.kill(int(folder.name), signal.SIGKILL)
    assert process.wait(60) != 0
    assert "i-PI was killed by SIGKILL" in (box.parent / "said").read_text()
    assert PIMDRun.open(run.folder).run(progress=False)["status"] == "finished"
    steps = read_properties(run["pimd.properties"])["step"]
    assert steps.tolist() == list(range(run.config.n_steps + 1))


def test_what_is_refused(box: Path, small_model_path: Path, cheap_path: Path) -> None:
    given = {"structure": str(box), "model": str(small_model_path), "beads": 6}
    inner = {"inner_model": str(cheap_path)}
    for wrong, words in (
        (inner, "expected an inner model with contract or inner_steps"),
        ({"inner_steps": 2}, "expected an inner model with contract or inner_steps"),
        ({**inner, "contract": 8}, "expected contract up to 6 beads, got 8"),
        ({"drivers": 2}, "expected transport socket or shm with several drivers"),
        ({"drivers": 4, "transport": "shm"}, "expected drivers that share 6 beads evenly, got 4"),
        ({**inner, "contract": 3, "drivers": 2, "transport": "shm"}, "share 3 beads evenly"),
        ({"rdf": ("O-Q",)}, "expected a pair of elements such as O-H, got 'O-Q'"),
        ({"classical": "nowhere"}, "expected the folder of a run at .*nowhere"),
    ):
        with pytest.raises(ConfigError, match=words):
            PIMDConfig.load(given | wrong)
