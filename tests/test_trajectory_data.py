"""Trajectories as arrays: molecules whole, unwrapped, in chunks, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from hff_ase.dynamics.observables.reading import stream
from hff_ase.dynamics.observables.topology import make_topology, topology_of
from hff_ase.dynamics.observables.trajectory import (
    Trajectory,
    centres,
    centres_of,
    check_transport,
    chunks,
    join,
)
from hff_ase.dynamics.observables.unwrapping import unwrap
from hff_ase.errors import ConfigError, SimulationError

CELL = np.array([[9.0, 0.0, 0.0], [1.0, 8.0, 0.0], [-2.0, 1.5, 10.0]])


def walk(n_frames: int = 60, seed: int = 0) -> tuple[Atoms, np.ndarray]:
    """Two ions and five pairs of atoms that wander through several cells: [n_frames, 12, 3]."""
    rng = np.random.default_rng(seed)
    atoms = Atoms("Li2" + "OF" * 5, pbc=True, cell=CELL)
    atoms.set_array("molecule", np.array([0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]))
    atoms.info["molecules"] = ["Li", "Li", *["AB"] * 5]
    start = rng.uniform(0, 8, (7, 3))
    path = start + np.cumsum(rng.normal(0, 0.6, (n_frames, 7, 3)), axis=0)
    positions = path[:, [0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]]
    bond = rng.normal(size=3) + np.cumsum(rng.normal(0, 0.1, (n_frames, 5, 3)), axis=0)
    bond *= 1.4 / np.linalg.norm(bond, axis=-1, keepdims=True)
    positions[:, 3::2] += bond
    return atoms, positions


def wrapped(positions: np.ndarray) -> np.ndarray:
    """Every atom folded into the cell."""
    return ((positions @ np.linalg.inv(CELL)) % 1.0) @ CELL


def trajectory_of(atoms: Atoms, positions: np.ndarray, interval: float = 1.0) -> Trajectory:
    n = len(positions)
    cells = np.repeat(CELL[None], n, axis=0)
    return Trajectory(positions, cells, interval * np.arange(n), topology_of(atoms, {"AB": 0}))


def test_unwrapping_gives_back_the_walk():
    atoms, positions = walk()
    atoms.positions = positions[0]
    system = topology_of(atoms)
    cells = np.repeat(CELL[None], len(positions), axis=0)
    found = unwrap(wrapped(positions), cells, system)
    shift = found[0] - positions[0]
    np.testing.assert_allclose(found - positions, np.repeat(shift[None], len(found), 0), atol=1e-9)
    # molecules are whole: both atoms of a pair are shifted alike
    np.testing.assert_allclose(shift[2::2], shift[3::2], atol=1e-9)
    assert np.abs(positions - positions[0]).max() > 5  # they did cross the boundary


def test_frames_too_far_apart_are_refused():
    atoms, positions = walk()
    atoms.positions = positions[0]
    cells = np.repeat(CELL[None], 2, axis=0)
    with pytest.raises(ConfigError, match="too far apart"):
        unwrap(wrapped(positions[[0, -1]] * 1.0), cells, topology_of(atoms))


def test_centres_of_mass():
    atoms, positions = walk()
    atoms.positions = positions[0]
    whole = trajectory_of(atoms, positions)
    found = centres(whole)
    o, f = atoms.get_masses()[2:4]
    expected = (o * positions[:, 4] + f * positions[:, 5]) / (o + f)
    np.testing.assert_allclose(found.positions[:, 3], expected)
    assert found.topology.kinds == ("Li", "AB")
    assert found.topology.kind_charges() == {"Li": 1.0, "AB": 0.0}
    again = centres_of(chunks(whole, 7))
    np.testing.assert_array_equal(again.positions, found.positions)
    np.testing.assert_array_equal(again.times, found.times)


def test_molecules_are_perceived_where_they_are_not_declared():
    atoms = Atoms(
        "LiPF6OH2",
        [[0, 0, 0], [5, 5, 5], [6.6, 5, 5], [3.4, 5, 5], [5, 6.6, 5], [5, 3.4, 5], [5, 5, 6.6],
         [5, 5, 3.4], [2.0, 0, 0], [2.6, 0.75, 0], [2.6, -0.75, 0]],
        cell=[12] * 3, pbc=True,
    )  # fmt: skip
    found = topology_of(atoms)
    assert found.n_molecules == 3
    assert sorted(found.kind_charges().values()) == [-1.0, 0.0, 1.0]
    given = topology_of(atoms, {"H2O": 0.5})
    assert given.kind_charges()["H2O"] == 0.5
    with pytest.raises(ConfigError, match="got one of 'TFSI'"):
        topology_of(atoms, {"TFSI": -1})


@pytest.mark.parametrize("suffix", [".extxyz", ".traj", ".xtc"])
def test_files_are_read_in_chunks(tmp_path, suffix):
    atoms, positions = walk(50)
    path = tmp_path / f"run{suffix}"
    frames = []
    for k, frame in enumerate(wrapped(positions)):
        copy = atoms.copy()
        copy.positions = frame
        copy.info["time_ps"] = 0.5 * k
        frames.append(copy)
    topology = None
    if suffix == ".xtc":
        mda = pytest.importorskip("MDAnalysis")
        topology = tmp_path / "run.pdb"
        from hff_ase.dynamics.reporters.trajectory_files import write_topology

        write_topology(topology, frames[0])
        universe = mda.Universe(str(topology))
        with mda.Writer(str(path), len(atoms)) as writer:
            for k, frame in enumerate(frames):
                universe.atoms.positions = frame.positions
                universe.dimensions = frame.cell.cellpar()
                universe.trajectory.ts.time = 0.5 * k
                writer.write(universe.atoms)
    else:
        write(path, frames)
    counted: list[int] = []
    parts = list(stream(path, topology, charges={"AB": 2}, chunk=20, progress=counted.append))
    assert counted == [20, 20, 10]
    found = join(parts)
    np.testing.assert_allclose(found.times, 0.5 * np.arange(50), atol=1e-4)
    # as in the walk, to the precision of the file
    moved, expected = found.positions - found.positions[0], positions - positions[0]
    np.testing.assert_allclose(moved, expected, atol=0.03 if suffix == ".xtc" else 1e-6)
    assert found.topology.kind_charges() == {"Li": 1.0, "AB": 2.0}
    assert check_transport(found) == pytest.approx(0.5)
    thinned = join(stream(path, topology, every=5))
    assert len(thinned) == 10
    # a file cut off within a frame
    content = path.read_bytes()
    path.write_bytes(content[: int(0.7 * len(content)) - 1])
    with pytest.raises(SimulationError, match=r"run\.(extxyz|traj|xtc)"):
        list(stream(path, topology, chunk=20))
    assert len(join(stream(path, topology, stop=30))) == 30
    with pytest.raises(ConfigError, match="no file"):
        list(stream(tmp_path / "other.xyz"))


def test_changed_number_of_atoms_is_refused(tmp_path):
    atoms, positions = walk(3)
    frames = []
    for k, frame in enumerate(positions):
        copy = atoms.copy()
        copy.positions = frame
        copy.info["time_ps"] = float(k)
        frames.append(copy)
    del frames[2][7]
    write(tmp_path / "run.extxyz", frames)
    with pytest.raises(
        ConfigError, match=r"expected 12 atoms in every frame of run\.extxyz, got 11"
    ):
        list(stream(tmp_path / "run.extxyz"))
    for frame in frames:
        del frame.info["time_ps"]
    write(tmp_path / "run.extxyz", frames[:2])
    with pytest.raises(ConfigError, match="expected times"):
        list(stream(tmp_path / "run.extxyz"))


def test_what_transport_cannot_use_is_named():
    atoms, positions = walk()
    atoms.positions = positions[0]
    whole = trajectory_of(atoms, positions)
    assert check_transport(whole) == 1.0
    folded = trajectory_of(atoms, wrapped(positions))
    with pytest.raises(ConfigError, match="wrapped without images"):
        check_transport(folded)
    breathing = whole.cells * (1 + 0.01 * np.sin(np.arange(60)))[:, None, None]
    barostat = Trajectory(positions, breathing, whole.times, whole.topology)
    with pytest.raises(ConfigError, match="a barostat moves the molecules"):
        check_transport(barostat)
    gap = np.concatenate([whole.times[:30], whole.times[30:] + 5])
    with pytest.raises(ConfigError, match="are frames missing"):
        check_transport(Trajectory(positions, whole.cells, gap, whole.topology))
    nameless = make_topology(["Li"], [0], ["Li"], [6.94])
    with pytest.raises(ConfigError, match="expected formal charges of Li, got none"):
        nameless.formal_charges()
    with pytest.raises(ConfigError, match="has the number of atoms changed"):
        Trajectory(positions[:, :5], whole.cells, whole.times, whole.topology)
    bad = positions.copy()
    bad[3, 1, 0] = np.nan
    with pytest.raises(ConfigError, match="in frame 3"):
        Trajectory(bad, whole.cells, whole.times, whole.topology)
