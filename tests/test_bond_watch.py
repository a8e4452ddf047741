"""Bonds followed during a run: what broke or formed, in which molecule, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from hff_ase.calculators import HybridFF
from hff_ase.dynamics.build import build_box, find_solvent
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.guards.bond_watch import BondWatch
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.dynamics.simulation.summary import read_summary
from hff_ase.errors import HFFWarning, SimulationError

# ---- what it sees --------------------------------------------------------------------------------


def _stretched(box: Atoms, first: int, second: int, distance: float) -> Atoms:
    """A copy whose second atom is at a distance from the first, in the direction that it had."""
    moved = box.copy()
    vector = moved.get_distance(first, second, mic=True, vector=True)
    moved.positions[second] += vector * (distance / np.linalg.norm(vector) - 1.0)
    return moved


@pytest.fixture(scope="module")
def box() -> Atoms:
    return build_box("1 M LiPF6 in EC:DMC 1:1 v/v", 300, seed=2)


@pytest.mark.parametrize("cell", [np.eye(3), [[1, 0, 0], [1, 1, 0], [0, -1, 1]]])
def test_a_broken_bond_is_named_wherever_its_atoms_lie(box: Atoms, cell: Any) -> None:
    start = box.copy()
    start.set_cell(np.array(cell) @ start.cell.array)  # the same lattice
    watch = BondWatch(start)
    fluorine = start.info["molecules"].index("PF6")
    phosphorus, other = np.flatnonzero(start.arrays["molecule"] == fluorine)[:2]
    assert watch.look(start) == []
    assert watch.look(_stretched(start, phosphorus, other, 2.2)) == []  # an anharmonic swing
    moved = _stretched(start, phosphorus, other, 2.6)
    moved.wrap()
    (event,) = watch.look(moved)
    assert event.kind == "broken"
    assert event.molecules == ("PF6",)
    assert event.distance == pytest.approx(2.6)
    assert event.text == (
        f"the bond of atom {phosphorus} (P) and atom {other} (F) in PF6 broke: "
        "they are 2.60 A apart"
    )
    assert watch.look(moved) == []  # told once


def test_every_bond_and_no_other_is_followed(box: Atoms) -> None:
    names = box.info["molecules"]
    bonds = {"Li": 0, "PF6": 6, "EC": 10, "DMC": 11}
    assert BondWatch(box).n_bonds == sum(bonds[name] for name in names)


def test_a_bond_between_two_molecules_is_named(box: Atoms) -> None:
    watch, names = BondWatch(box), box.info["molecules"]
    one, other = (np.flatnonzero(box.arrays["molecule"] == names.index(n)) for n in ("EC", "DMC"))
    carbon = one[box.numbers[one] == 6][0]
    oxygen = other[box.numbers[other] == 8][0]
    moved = box.copy()
    moved.positions[other] += moved.positions[carbon] + [1.4, 0, 0] - moved.positions[oxygen]
    events = [e for e in watch.look(moved) if set(e.atoms) == {carbon, oxygen}]
    assert [e.kind for e in events] == ["formed"]
    assert events[0].molecules == ("EC", "DMC")
    assert f"atom {carbon} (C) in EC and atom {oxygen} (O) in DMC bonded" in events[0].text


def test_a_proton_that_goes_over_breaks_one_bond_and_forms_another() -> None:
    ethanol = find_solvent("ethanol").atoms()
    oxygen = int(np.flatnonzero(ethanol.numbers == 8)[0])
    distances = ethanol.get_distances(oxygen, range(len(ethanol)))
    hydrogen = int(np.argmin(np.where(ethanol.numbers == 1, distances, np.inf)))
    away = ethanol.get_distance(oxygen, hydrogen, vector=True)
    away /= np.linalg.norm(away)
    pair = ethanol + Atoms("O", [ethanol.positions[oxygen] + 2.5 * away])
    watch = BondWatch(pair)
    shared, over = pair.copy(), pair.copy()
    shared.positions[hydrogen] = pair.positions[oxygen] + 1.25 * away
    over.positions[hydrogen] = pair.positions[oxygen] + 1.5 * away
    assert watch.look(shared) == []
    assert {event.kind for event in watch.look(over)} == {"broken", "formed"}


@pytest.mark.parametrize(
    "atoms",
    [
        bulk("Cu", cubic=True),
        bulk("NaCl", "rocksalt", 5.64),
        Atoms("LiO", [[0, 0, 0], [0, 0, 1.8]]),
        Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]]),
    ],
)
def test_metals_and_ions_have_no_bonds_to_watch(atoms: Atoms) -> None:
    watch = BondWatch(atoms)
    assert watch.n_bonds == 0
    squeezed = atoms.copy()
    squeezed.positions *= 0.9
    squeezed.set_cell(0.9 * squeezed.cell.array)
    assert watch.look(squeezed) == []


# ---- what comes of it ----------------------------------------------------------------------------


class PulledApart(Calculator):
    """Every atom in a well where it began, but for one that a constant force pulls away."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]  # type: ignore[misc]

    def __init__(self, start: Atoms, first: int, second: int, force: float) -> None:
        super().__init__()
        self._start, self._pair, self._force = start.positions.copy(), (first, second), force

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        first, second = self._pair
        moved = self.atoms.positions - self._start
        held = np.ones(len(moved), dtype=bool)
        held[second] = False
        forces = np.where(held[:, None], -5.0 * moved, 0.0)
        vector = self.atoms.positions[second] - self.atoms.positions[first]
        length = float(np.linalg.norm(vector))
        forces[second] += self._force * vector / length
        forces[first] -= self._force * vector / length
        energy = 2.5 * float((moved[held] ** 2).sum()) - self._force * length
        self.results = {"energy": energy, "forces": forces}


def _ethanol() -> tuple[Atoms, int, int]:
    """Ethanol, with its oxygen and the hydrogen bonded to it."""
    atoms = find_solvent("ethanol").atoms()
    oxygen = int(np.flatnonzero(atoms.numbers == 8)[0])
    distances = atoms.get_distances(oxygen, range(len(atoms)))
    return atoms, oxygen, int(np.argmin(np.where(atoms.numbers == 1, distances, np.inf)))


def _pulled(tmp_path: Path, force: float = 0.05, **options: Any) -> MDRun:
    """Ethanol whose hydroxyl hydrogen is pulled away, by 0.05 eV/A some Angstrom in 0.1 ps."""
    atoms, oxygen, hydrogen = _ethanol()
    config = MDConfig(
        output=str(tmp_path / "run"),
        stages=["nvt:0.4ps"],
        temperature=10.0,
        **{"minimize": False, "plot": False, "progress": False, "engine": "ase", **options},
    )
    return MDRun.start(config, atoms, PulledApart(atoms, oxygen, hydrogen, force))


def test_a_broken_bond_stops_a_run(tmp_path: Path) -> None:
    with pytest.raises(SimulationError) as caught:
        _pulled(tmp_path).run()
    message = str(caught.value)
    assert "(O) and" in message or "(H) and" in message
    assert "in ethanol broke" in message
    assert "continue with --bond-watch report or off; frame saved in" in message
    assert (tmp_path / "run" / "failed.extxyz").exists()


def test_another_reason_to_stop_names_the_molecule_too(tmp_path: Path) -> None:
    """An atom that flies off in one step was in a molecule, whose bond is the news."""
    with pytest.raises(SimulationError) as caught:
        _pulled(tmp_path, force=10.0, max_temperature=1e6).run()
    assert "A in one step" in str(caught.value)
    assert "in ethanol broke" in str(caught.value)


def test_a_broken_bond_is_told_where_that_is_asked(tmp_path: Path) -> None:
    summary = _pulled(tmp_path, bond_watch="report").run()
    assert summary["status"] == "finished"
    (event,) = summary["bonds"]
    assert "in ethanol broke" in event["event"]
    assert event["step"] % 100 == 0
    assert "in ethanol broke" in (tmp_path / "run" / "md.log").read_text()


def test_no_bond_is_looked_at_where_that_is_asked(tmp_path: Path) -> None:
    assert "bonds" not in _pulled(tmp_path, bond_watch="off").run()


def test_a_resumed_run_follows_the_bonds_of_its_start(tmp_path: Path) -> None:
    """Resumed when the bond had broken already, it still is one that broke."""
    run = _pulled(tmp_path)
    with pytest.raises(SimulationError, match="in ethanol broke"):
        run.run()
    calc = PulledApart(*_ethanol(), force=0.05)
    again = MDRun.resume(tmp_path / "run", calc)
    with pytest.raises(SimulationError, match="in ethanol broke"):
        again.run()
    told = MDRun.resume(tmp_path / "run", calc, settings={"bond_watch": "report"})
    assert told.run()["bonds"]


def test_a_replica_whose_bonds_break_is_left_behind(tmp_path: Path, small_model_path: Path) -> None:
    """Ethanol whose hydrogen flies off, beside ions that have no bonds."""
    settings = {
        "output": str(tmp_path / "run"),
        "stages": ["nve:100fs"],
        "timestep": 1.0,
        "velocities": "file",
        **{"minimize": False, "plot": False, "progress": False, "max_displacement": 5.0},
    }
    config = ReplicaConfig.load(settings)
    lithium = Atoms("Li2", [[0, 0, 0], [0, 0, 9.0]], info={"charge": 2})
    ethanol, oxygen, hydrogen = _ethanol()
    velocities = np.zeros((len(ethanol), 3))
    away = ethanol.get_distance(oxygen, hydrogen, vector=True)
    velocities[hydrogen] = 0.1 / units.fs * away / np.linalg.norm(away)
    ethanol.set_velocities(velocities)
    lithium.set_momenta(np.zeros((2, 3)))
    structures = [ethanol, lithium]
    run = ReplicaRun.start(config, structures, HybridFF.load(small_model_path))
    with pytest.warns(HFFWarning, match="replica 0 stopped after step 100: the bond of"):
        run.run()
    summary = read_summary(run.folder)
    assert [entry["replica"] for entry in summary["failed"]] == [0]
    assert "in ethanol broke" in summary["failed"][0]["reason"]
