"""Benchmarks: what is timed, what follows from it, and the peers' own implementation of BAMBOO."""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from conftest import salt_box, water
from typer.testing import CliRunner

from hff_ase.batch import AtomsBatch
from hff_ase.bench import boxes, hardware, measure, timing
from hff_ase.bench.benchmark import run
from hff_ase.bench.config import BenchConfig
from hff_ase.bench.dynamics import time_dynamics
from hff_ase.bench.report import as_json, as_text, number
from hff_ase.bench.results import BlockTimes, Row
from hff_ase.calculators import HybridFF
from hff_ase.cli import app
from hff_ase.errors import ConfigError

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
SHORT = 0.005  # s, of a block


# --- clocks ----------------------------------------------------------------------------------


def test_blocks_are_means_of_calls() -> None:
    times = timing.blocks(lambda: time.sleep(0.002), CPU, 4, SHORT)
    assert len(times) == 4
    assert min(times) >= 0.002


def test_interleaved_functions_take_turns() -> None:
    order: list[str] = []

    def slow(name: str) -> None:
        order.append(name)
        time.sleep(0.006)  # longer than a block: one call each

    timing.interleaved({"a": lambda: slow("a"), "b": lambda: slow("b")}, CPU, 3, SHORT)
    assert "".join(order) == "aabb" + "ab" * 3  # each warms up by two calls


def test_a_step_moves_all_atoms_and_searches_nothing(small_calculator: HybridFF) -> None:
    small_potential = small_calculator.potential
    batch = AtomsBatch.from_atoms(salt_box())
    neighbors = small_potential.neighbor_list(1.0)
    seen: list[torch.Tensor] = []

    class Watch:
        def __call__(self, moved: AtomsBatch, *args: Any, **kwargs: Any) -> None:
            seen.append(moved.positions.clone())
            small_potential(moved, *args, **kwargs)

    step = measure.step_of(Watch(), batch, neighbors, True)  # type: ignore[arg-type]
    for _ in range(5):
        step()
    assert neighbors.n_builds == 1
    for before, after in pairwise(seen):
        assert ((before - after).abs().amax(dim=1) > 0).all()
    assert (torch.stack(seen) - batch.positions).abs().max() < 0.01


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    with hardware.using_threads(1) as threads:
        assert threads == torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(ConfigError, match="at least 1 thread, got 0"), hardware.using_threads(0):
        pass


def test_peak_memory_sees_what_was_freed_again() -> None:
    memory = hardware.PeakMemory(CPU)
    memory.start()
    block = np.ones(64 * 2**20, dtype=np.uint8)
    del block
    growth = memory.growth()
    if growth is None:
        pytest.skip("this system does not tell")
    assert 60 * 2**20 < growth < 100 * 2**20


# --- numbers -----------------------------------------------------------------------------------


def test_what_follows_from_the_times() -> None:
    row = Row("x", 500, 2, BlockTimes(9.0, 8.0, 11.0), {}, 20.0, 20.0, 5_000_000, 0.5)
    assert row.md_step_ms == pytest.approx(10.0)
    # 86,400 s / 10 ms = 8.64e6 steps a day, of 0.5 fs each
    assert row.ns_per_day == pytest.approx(4.32)
    assert row.us_per_atom == pytest.approx(10.0)
    assert row.bytes_per_atom == pytest.approx(5000.0)


def test_numbers_have_three_digits() -> None:
    assert [number(x) for x in (None, 0.0123, 0.123, 1.234, 12.34, 123.4, 12345.6)] == [
        "-", "0.012", "0.12", "1.23", "12.3", "123", "12,346",
    ]  # fmt: skip


def test_no_term_costs_less_than_nothing() -> None:
    """Two terms can take longer than three that share their work."""
    assert measure.least_costs([3.0, 5.0, 4.0, 6.0]) == [3.0, 4.0, 4.0, 6.0]
    rng = np.random.default_rng(0)
    for _ in range(20):
        sums = rng.random(6).tolist()
        found = measure.least_costs(sums)
        assert found[-1] == sums[-1]  # the whole is what was measured
        assert min(np.diff(found, prepend=0.0)) >= 0.0
        assert all(a <= b for a, b in zip(found, sums, strict=True))


def test_a_whole_benchmark(small_calculator: HybridFF) -> None:
    config = BenchConfig(replicas=(1, 3), repeats=2, block=SHORT, md_steps=0)
    result = run(config, [salt_box(), water()], calculator=small_calculator)
    assert [(row.atoms, row.systems) for row in result.rows] == [(8, 1), (8, 3), (3, 1), (3, 3)]
    names = [name for name, _ in small_calculator.potential.named_terms()]
    for row in result.rows:
        assert list(row.terms) == names
        assert sum(row.terms.values()) == pytest.approx(row.step.min)
        assert min(row.terms.values()) >= 0.0
        assert 0 < row.step.min <= row.step.median <= row.step.max
    content = json.loads(as_json(result))
    assert content["yardsticks"]["matmul_gflops"] > 0
    assert content["settings"]["dtype"] == "float64"
    assert content["rows"][1]["us_per_atom"] == pytest.approx(result.rows[1].us_per_atom)
    assert "3 x 8" in as_text(result)
    assert "times are without them" in as_text(result)


@pytest.mark.parametrize(("skin", "every_step"), [(0.0, True), (3.0, False)])
def test_searches_are_counted(small_model_path: Path, skin: float, every_step: bool) -> None:
    calculator = HybridFF.load(small_model_path, dtype="float64", skin=skin)
    count = measure.count_rebuilds(calculator, water(), 0.1, 10)
    assert count is not None
    assert count.rebuilds == (10 if every_step else 0)


def test_ase_and_bare_calls_see_the_same_positions(small_calculator: HybridFF) -> None:
    atoms = salt_box()
    before = atoms.get_positions()
    times = measure.ase_overhead(small_calculator, atoms, 0.1, 2)
    assert times.md.min > 0
    assert times.bare.min > 0
    assert np.array_equal(before, atoms.get_positions())


@pytest.mark.parametrize("n_systems", [1, 2])
def test_dynamics_of_the_engine(small_calculator: HybridFF, n_systems: int) -> None:
    names = ["nvt", "npt"]
    times = time_dynamics(small_calculator, salt_box(), n_systems, names, 0.1, 6, 2)
    assert list(times) == names
    for found in times.values():
        assert found.steps == 6
        assert found.rebuilds <= 6
        assert found.step.min > 0
    with pytest.raises(ConfigError, match="ensembles among nve, nvt"):
        time_dynamics(small_calculator, salt_box(), 1, ["nph"], 0.1, 6, 2)
    with pytest.raises(ConfigError, match="a periodic structure for npt"):
        time_dynamics(small_calculator, water(), 1, ["npt"], 0.1, 6, 2)


# --- boxes -------------------------------------------------------------------------------------


def test_large_boxes_are_repeats() -> None:
    small, large = boxes.large_box("EC", 50), boxes.large_box("EC", 400, packed=60)
    assert len(large) == pytest.approx(400, rel=0.05)
    assert len(large) / large.get_volume() == pytest.approx(
        len(small) / small.get_volume(), rel=0.1
    )
    distances = large.get_all_distances(mic=True)
    assert distances[distances > 0].min() > 0.8
    # rattled: no atom is an exact image of another one
    repeats = boxes.factors(400, 60)
    assert np.prod(repeats) == 8
    shift = large.cell[0] / repeats[0]
    fractions = np.linalg.solve(large.cell[:].T, (large.positions + shift).T).T % 1
    theirs = np.linalg.solve(large.cell[:].T, large.positions.T).T % 1
    assert np.abs(fractions[:, None] - theirs).max(axis=2).min() > 0


@pytest.mark.parametrize("n_atoms", [1, 5000, 5001, 100_000, 1_000_000])
def test_factors(n_atoms: int) -> None:
    repeats = boxes.factors(n_atoms)
    assert n_atoms / np.prod(repeats) <= boxes.PACKED
    assert max(repeats) - min(repeats) <= 1


def test_copies_differ() -> None:
    batch = boxes.copies(water(), 3)
    assert np.array_equal(batch[0].positions, water().positions)
    assert not np.array_equal(batch[1].positions, batch[2].positions)


# --- command line ------------------------------------------------------------------------------


def test_command(tmp_path: Path, small_model_path: Path) -> None:
    write(tmp_path / "box.extxyz", salt_box())
    out = tmp_path / "out"
    command = ["bench", str(tmp_path / "box.extxyz"), "--model", str(small_model_path)]
    command += [
        "--md-steps",
        "0",
        "--repeats",
        "1",
        "--block",
        "0.005",
        "--replicas",
        "1,2",
        "-o",
        str(out),
    ]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert "ms/step" in result.output
    content = json.loads((out / "bench.json").read_text())
    assert [row["systems"] for row in content["rows"]] == [1, 2]
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="without results"):
        CliRunner().invoke(app, command, catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--atoms", "ten"], "--atoms: expected a whole number, got 'ten'"),
        (["--replicas", "0"], "--replicas: expected at least 1, got '0'"),
        (["--threads", "0"], "--threads: expected at least 1, got '0'"),
        (["box.xyz", "--atoms", "100"], "either a structure or --atoms"),
        (["--timestep", "1 s"], "--timestep: expected a positive time with its unit"),
        (["--repeats", "0"], "--repeats: expected at least 1, got '0'"),
        (["-o", "no/such/folder"], "an existing folder"),
        (["--kernels", "fast"], "--kernels: expected auto or reference, got 'fast'"),
    ],
)
def test_command_refuses(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        CliRunner().invoke(app, ["bench", *arguments], catch_exceptions=False)
    assert message in str(error.value)


# --- the page and the peers --------------------------------------------------------------------


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    def load(folder: str, name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(ROOT / folder))
        module = __import__(name)
        for loaded in (name, "common"):
            monkeypatch.delitem(sys.modules, loaded, raising=False)
        return module

    return load


def test_page_holds_what_the_results_say(
    script: Any, tmp_path: Path, small_calculator: HybridFF
) -> None:
    page = script("benchmarks", "performance_page")
    config = BenchConfig(repeats=1, block=SHORT, md_steps=0)
    result = run(config, [salt_box()], calculator=small_calculator)
    (tmp_path / "cpu.json").write_text(as_json(result))
    text = (ROOT / "docs" / "performance.md").read_text()
    filled = page.filled(text, tmp_path)
    assert number(result.rows[0].step.median) in filled
    assert "Not measured yet (peers)" in filled
    assert page.BLOCK.sub("", filled) == page.BLOCK.sub("", text)  # the words stay as they are
    assert page.filled(filled, tmp_path) == filled


@pytest.mark.parametrize("name", ["performance", "calibration-conditioning"])
def test_tables_of_pages_are_those_of_the_results(script: Any, name: str) -> None:
    page = script("benchmarks", "performance_page")
    text = (ROOT / "docs" / f"{name}.md").read_text()
    assert len(page.BLOCK.findall(text)) > 2
    assert page.filled(text, page.RESULTS) == text


def _reference(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    table: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "reference.npz") as file:
        for key in file.files:
            system, quantity = key.split("/")
            table.setdefault(system, {})[quantity] = file[key]
    return table


def test_peer_bamboo_is_the_published_model(script: Any, shared_data: Path) -> None:
    folder = shared_data / "bamboo"
    if not (folder / "reference.npz").is_file():
        pytest.skip(f"no reference results at {folder}")
    peer = script("benchmarks/peers", "bamboo_peer")
    model = peer.Bamboo(peer.read_arrays(folder / "weights.npz"))
    for name, expected in _reference(folder).items():
        atoms = Atoms(expected["numbers"], expected["positions"], cell=expected["cell"])
        atoms.pbc, atoms.info["charge"] = expected["pbc"], float(expected["charge"])
        boxed = bool(atoms.pbc.all())
        graphs = [peer.graph_of([atoms], cutoff) for cutoff in (5.0, 5.0 if boxed else 50.0, 10.0)]
        energies, q, forces = model.network(graphs[0], peer._vectors(graphs[0]))
        n = len(atoms)
        assert float(energies.sum()) == pytest.approx(float(expected["e_nn"]), abs=2e-4 * n), name
        assert np.abs(q.numpy() - expected["charges"]).max() < 2e-6
        charge_energy = float(model.charge_energies(graphs[0].numbers, q).sum())
        assert charge_energy == pytest.approx(float(expected["e_charge"]), abs=2e-4 * n)
        if boxed:
            vector = peer._vectors(graphs[2])
            r = torch.linalg.vector_norm(vector, dim=1)
            energy, _ = model.dispersion(graphs[2].numbers, graphs[2].i, graphs[2].j, r)
            assert float(energy.sum()) == pytest.approx(float(expected["e_dispersion"]), abs=1e-3)
        else:
            vector = peer._vectors(graphs[1])
            r = torch.linalg.vector_norm(vector, dim=1)
            energy, force = peer.coulomb(q, graphs[1].i, graphs[1].j, r, 0.0)
            assert float(energy.sum()) == pytest.approx(float(expected["e_coulomb"]), abs=1e-3)
            forces = forces + peer.scatter((force / r)[:, None] * vector, graphs[1].i, n)
            assert np.abs(forces.numpy() - expected["forces_published"]).max() < 2e-3


@pytest.mark.parametrize("g_ewald", [0.0, 0.7])
def test_pair_forces_of_peer_bamboo_are_gradients(script: Any, g_ewald: float) -> None:
    peer = script("benchmarks/peers", "bamboo_peer")
    tables = {"c6_emb.weight": np.array([[5.0], [90.0]]), "r0_emb.weight": np.array([[2.2], [3.1]])}
    model = peer.Bamboo(tables)
    model.arrays = {name: value.double() for name, value in model.arrays.items()}
    r = torch.linspace(1.0, 9.9, 50, dtype=torch.float64, requires_grad=True)
    i = torch.zeros(50, dtype=torch.int64)
    q = torch.tensor([0.7, -0.4], dtype=torch.float64)
    for energy, force in (
        peer.coulomb(q, i, i + 1, r, g_ewald),
        model.dispersion(torch.tensor([0, 1]), i, i + 1, r),
    ):
        (slope,) = torch.autograd.grad(2.0 * energy.sum(), r)
        torch.testing.assert_close(force, -slope, rtol=1e-10, atol=1e-12)
