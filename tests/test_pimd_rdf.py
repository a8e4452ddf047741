"""Radial distribution functions over beads, and a classical run beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry.rdf import get_rdf
from ase.io import write
from conftest import salt_box
from typer.testing import CliRunner

from hff_ase.cli import app
from hff_ase.dynamics.pimd import PIMDConfig, PIMDRun
from hff_ase.dynamics.pimd.comparison import read_beads, read_classical, second_half
from hff_ase.dynamics.pimd.rdf import distributions, lightest_pairs
from hff_ase.dynamics.reporters.run_folder import STATISTICS
from hff_ase.errors import SimulationError, StructureError


def frames(n: int = 3) -> list[Atoms]:
    rng = np.random.default_rng(1)
    out = []
    for _ in range(n):
        atoms = salt_box() * (3, 3, 3)
        atoms.positions += 0.2 * rng.normal(size=atoms.positions.shape)
        out.append(atoms)
    return out


def test_functions_are_those_of_ase() -> None:
    boxes = frames()
    found = distributions(boxes, ("O-H", "H-H", "Li-F"), reach=6.0, width=0.1)
    for pair, g in found.g.items():
        kinds = [atomic_numbers[name] for name in pair.split("-")]
        each = [get_rdf(atoms, 6.0, 60, elements=kinds)[0] for atoms in boxes]
        n = boxes[0].get_chemical_symbols().count(pair.split("-")[0])
        # ASE divides by N^2 where there are N (N - 1) pairs of one element
        scale = n / (n - 1) if kinds[0] == kinds[1] else 1.0
        np.testing.assert_allclose(g, scale * np.mean(each, axis=0), atol=1e-9)


def test_an_ideal_gas_has_no_structure() -> None:
    rng = np.random.default_rng(0)
    boxes = [Atoms("H60O40", 14 * rng.random((100, 3)), cell=[14, 14, 14], pbc=True)] * 1
    boxes += [Atoms("H60O40", 14 * rng.random((100, 3)), cell=[14, 14, 14], pbc=True)
              for _ in range(60)]  # fmt: skip
    found = distributions(boxes, ("H-H", "O-H"), reach=6.0, width=1.0)
    for g in found.g.values():
        np.testing.assert_allclose(g[2:], 1.0, atol=0.03)
    with pytest.raises(StructureError, match="expected periodic frames"):
        distributions([Atoms("H2")], ("H-H",))


def test_hydrogen_comes_first() -> None:
    assert lightest_pairs(["O", "H", "H", "Li"]) == ("H-H", "Li-H", "O-H", "O-Li")
    assert len(lightest_pairs(list("HCNOFPS"))) == 6


def test_frames_of_the_second_half() -> None:
    boxes = [Atoms("H", [[k, 0, 0]]) for k in range(2001)]
    late = second_half(boxes)
    assert late[0].positions[0, 0] == 1000
    assert len(late) <= 400


def simulate(run: PIMDRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps in this process, as i-PI's own process would do them."""
    from ipi.scripting import InteractiveSimulation

    monkeypatch.chdir(run.folder)
    InteractiveSimulation(Path("input.xml").read_text()).run(run.config.n_steps)


def test_a_run_is_set_beside_a_classical_one(
    tmp_path: Path, small_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ipi", reason="i-PI (pip install 'hff-ase[pimd]')")
    box = tmp_path / "box.extxyz"
    write(box, salt_box())
    common = {
        "structure": str(box), "model": str(small_model_path), "temperature": 50.0,
        "timestep": 0.25, "time": "2fs", "statistics_interval": 1, "trajectory_interval": 2,
        "ensemble": "npt", "checkpoint_interval": 8, "minimize": False,
    }  # fmt: skip
    classical = common | {"beads": 1, "output": str(tmp_path / "one")}
    one = PIMDRun.create(PIMDConfig.load(classical))
    simulate(one, monkeypatch)
    one.finish(0.0)
    both = common | {"beads": 4, "output": str(tmp_path / "four"), "rdf": ("O-H", "C-O")}
    run = PIMDRun.create(PIMDConfig.load(both | {"classical": str(tmp_path / "one")}))
    simulate(run, monkeypatch)
    summary = run.finish(0.0)
    assert summary["classical"]["density{g/cm3}"]["mean"] > 0
    beads = read_beads(run.folder, run.atoms)
    assert len(beads) == 4 * 3  # of five frames the last three, of every bead
    assert len(read_classical(tmp_path / "one").frames) == 3
    head = run["rdf.dat"].read_text().splitlines()[0].split()[1:]
    assert head == ["r[A]", "O-H", "C-O", "classical_O-H", "classical_C-O"]
    table = np.loadtxt(run["rdf.dat"])
    start = run.atoms.get_distances(4, [5, 6], mic=True)  # O-H of the water at the start
    bonds = table[:, 0][(table[:, 1] > 0) & (table[:, 0] < 1.5)]
    assert abs(bonds.mean() - start.mean()) < 0.1
    assert run["pimd.png"].stat().st_size > 0
    assert summary["rdf_frames"] == 3
    # compared afterwards, by the command line, without running again
    result = CliRunner().invoke(
        app, ["pimd", "--resume", str(tmp_path / "one"), "--classical", str(tmp_path / "one")]
    )
    assert result.exit_code == 0, result.output
    again = yaml.safe_load((tmp_path / "one" / "summary.yaml").read_text())
    assert again["classical"]["folder"] == str(tmp_path / "one")
    with pytest.raises(SimulationError, match="expected a classical run"):
        read_classical(run.folder)


def test_a_run_of_hff_md_is_read(tmp_path: Path) -> None:
    rows = "# step stage time[ps] density[g/cm^3]\n0 1 0.0 1.1\n10 1 0.01 1.2\n"
    (tmp_path / STATISTICS).write_text(rows)
    with pytest.raises(SimulationError, match=r"expected trajectory.extxyz or trajectory.traj"):
        read_classical(tmp_path)
    write(tmp_path / "trajectory.extxyz", frames(4))
    found = read_classical(tmp_path)
    assert len(found.frames) == 2
    assert found.density is not None
    assert found.summary()["density{g/cm3}"]["mean"] == pytest.approx(1.2)
    with pytest.raises(SimulationError, match="expected the folder of a run"):
        read_classical(tmp_path.parent)
