"""Labelling over processes: nothing is lost, nothing is done twice, failures are kept."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner

from hff_ase.cli.label import app
from hff_ase.data.frames import read_frames
from hff_ase.errors import ConfigError, HFFError, StructureError
from hff_ase.labels import Label, LabelStore, XTBLabeller, label_frames, write_labelled
from hff_ase.labels.labeller import job_key
from hff_ase.workers import read_cluster

distributed = pytest.importorskip("distributed", reason="Dask is an extra (labels)")


@dataclass(frozen=True)
class Counting:
    """A labeller that notes each calculation in a folder, and does as the structure says."""

    folder: str

    @property
    def method(self) -> dict[str, Any]:
        return {"code": "counting"}

    def check(self, atoms: Atoms) -> None:
        if atoms.info.get("never"):
            raise StructureError("expected something else, got this")

    def label(self, atoms: Atoms, threads: int = 1) -> Label:
        number = atoms.info["number"]
        note = Path(self.folder) / f"{number}.{time.time_ns()}"
        note.write_text(json.dumps({"pid": os.getpid(), "omp": os.environ["OMP_NUM_THREADS"]}))
        starts = len(list(Path(self.folder).glob(f"{number}.*")))
        if starts <= atoms.info.get("kills", 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if atoms.info.get("breaks"):
            raise ZeroDivisionError("a bug")
        arrays = {"energy": np.array(float(number)), "forces": np.zeros((len(atoms), 3))}
        return Label("ok", arrays, {"method": "counting", "threads": threads})


def frames(n: int) -> list[Atoms]:
    out = []
    for k in range(n):
        atoms = Atoms("He", [[0.1 * k, 0, 0]])
        atoms.info["number"] = k
        out.append(atoms)
    return out


@pytest.fixture
def labeller(tmp_path: Path) -> Counting:
    (tmp_path / "notes").mkdir()
    return Counting(str(tmp_path / "notes"))


def starts(labeller: Counting) -> list[int]:
    return sorted(int(p.name.split(".")[0]) for p in Path(labeller.folder).iterdir())


def energies(labels: list[Label]) -> list[float]:
    return [float(label.arrays["energy"]) for label in labels]


def test_killed_workers_lose_nothing_and_a_restart_repeats_nothing(
    labeller: Counting, tmp_path: Path
) -> None:
    structures = frames(6)
    structures[2].info["kills"] = 1  # its first worker dies over it; the second attempt is well
    structures[4].info["kills"] = 99  # kills whoever takes it
    structures[5].info["breaks"] = True
    labels = label_frames(
        structures, labeller, tmp_path / "store", workers=2, threads=3, lost_limit=1
    )
    assert energies([labels[k] for k in (0, 1, 2, 3)]) == [0, 1, 2, 3]
    assert [label.ok for label in labels] == [True] * 4 + [False] * 2
    assert "KilledWorker" in labels[4].info["error"]
    assert "ZeroDivisionError" in labels[5].info["error"]
    assert starts(labeller) == [0, 1, 2, 2, 3, 4, 4, 5]  # only what died was done again
    notes = [json.loads(p.read_text()) for p in Path(labeller.folder).iterdir()]
    assert {note["omp"] for note in notes} == {"3"}
    assert os.getpid() not in {note["pid"] for note in notes}
    again = label_frames(structures, labeller, tmp_path / "store", workers=2)
    assert len(starts(labeller)) == 8
    assert [label.info for label in again] == [label.info for label in labels]


def test_a_killed_run_is_taken_up_where_it_was(labeller: Counting, tmp_path: Path) -> None:
    """The process that hands out the work dies; what was finished is not done again."""
    structures = frames(5)
    structures[3].info["kills"] = 1  # computed in the process itself, so that dies
    path = tmp_path / "in.extxyz"
    write(path, structures)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_labels_engine import Counting\n"
        "from hff_ase.labels import label_frames\n"
        "from ase.io import read\n"
        "label_frames(read(sys.argv[2], ':'), Counting(sys.argv[3]), sys.argv[4], workers=0)\n"
    )
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", script, here, str(path), labeller.folder, str(tmp_path / "s")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert starts(labeller) == [0, 1, 2, 3]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert starts(labeller) == [0, 1, 2, 3, 3, 4]


def test_failures_are_tried_again_only_when_asked(
    labeller: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    structures = frames(2)
    structures[1].info["breaks"] = True
    seen: list[tuple[int, int, int]] = []
    label_frames(
        structures,
        labeller,
        tmp_path / "s",
        workers=0,
        progress=lambda *numbers: seen.append(numbers),
    )
    assert seen == [(0, 0, 2), (1, 0, 2), (2, 1, 2)]
    label_frames(structures, labeller, tmp_path / "s", workers=0)
    assert starts(labeller) == [0, 1]
    del structures[1].info["breaks"]
    labels = label_frames(structures, labeller, tmp_path / "s", workers=0, retry_failed=True)
    assert starts(labeller) == [0, 1, 1]
    assert all(label.ok for label in labels)


def test_equal_structures_are_computed_once_and_damaged_labels_again(
    labeller: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    structures = [*frames(2), frames(2)[1]]
    labels = label_frames(structures, labeller, tmp_path / "s", workers=0)
    assert energies(labels) == [0, 1, 1]
    store = LabelStore(tmp_path / "s")
    assert len(list(store.keys())) == 2
    store.path(job_key(structures[0], labeller.method)).write_bytes(b"PK\x03\x04 not a label")
    label_frames(structures, labeller, tmp_path / "s", workers=0)
    assert starts(labeller) == [0, 0, 1]


def test_what_tells_calculations_apart() -> None:
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=0)
    key = job_key(atoms, {"basis": "a"})
    assert key == job_key(atoms.copy(), {"basis": "a"})
    assert key != job_key(atoms, {"basis": "b"})
    charged, moved = atoms.copy(), atoms.copy()
    charged.info["charge"] = 2
    moved.positions[0, 0] += 1e-6
    assert len({key, job_key(charged, {"basis": "a"}), job_key(moved, {"basis": "a"})}) == 3


def test_a_frame_that_cannot_be_labelled_is_named_before_any_work(
    labeller: Counting, tmp_path: Path
) -> None:
    structures = frames(3)
    structures[2].info |= {"never": True, "source": "box:7"}
    with pytest.raises(StructureError, match=r"frame 2 \(box:7\): expected something else"):
        label_frames(structures, labeller, tmp_path / "s", workers=0)
    assert starts(labeller) == []


def test_a_slurm_cluster_by_configuration_only(
    labeller: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through dask-jobqueue's own SLURMCluster; sbatch is a script that starts the job here."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is an extra (labels)")
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, text in (
        ("sbatch", f'cp "$1" {tmp_path}/job.sh\nbash {tmp_path}/job.sh >{tmp_path}/job.log 2>&1 &\n'
                   'echo "Submitted batch job $!"\n'),
        ("scancel", 'kill "$@" 2>/dev/null || true\n'),
    ):  # fmt: skip
        (fake / name).write_text("#!/bin/bash\n" + text)
        (fake / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where `Counting` is
    config = tmp_path / "slurm.yaml"
    config.write_text(
        "kind: SLURMCluster\nqueue: short\naccount: chem\nmemory: 1GB\nwalltime: '00:10:00'\n"
        f"interface: lo\nlocal_directory: {tmp_path}\nlog_directory: {tmp_path}\n"
    )
    labels = label_frames(frames(2), labeller, tmp_path / "s", workers=1, threads=2, cluster=config)
    assert energies(labels) == [0, 1]
    job = (tmp_path / "job.sh").read_text()
    for line in ("#SBATCH -p short", "#SBATCH -A chem", "export OMP_NUM_THREADS=2"):
        assert line in job
    notes = [json.loads(p.read_text()) for p in Path(labeller.folder).iterdir()]
    assert {note["omp"] for note in notes} == {"2"}


def test_broken_cluster_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with pytest.raises(ConfigError, match="yaml file"):
        read_cluster(path)
    for text, message in (
        ("kind: MagicCluster", "SLURMCluster"),
        ("- a", "keys and values"),
        ("address: tcp://h:1\nqueue: a", "beside the address"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_cluster(path)


def tight_binding_labels() -> tuple[list[Atoms], list[Label]]:
    pytest.importorskip("tblite", reason="tblite is an extra (labels)")
    structures = [molecule("H2O"), molecule("H2CO")]
    structures[0].info |= {"cut_from": "box:3", "molecules": "H2O"}
    labels = [XTBLabeller().label(atoms) for atoms in structures]
    points = np.random.default_rng(0).normal(size=(5, 3))
    extra = {"esp_points": points, "esp": points[:, 0], "quadrupole": np.diag([1.0, 2, 3])}
    labels[0] = Label("ok", labels[0].arrays | extra, labels[0].info)
    return structures, labels


@pytest.mark.parametrize("suffix", ["extxyz", "db"])
def test_files_keep_labels_and_how_they_were_made(tmp_path: Path, suffix: str) -> None:
    structures, labels = tight_binding_labels()
    structures.append(molecule("CH4"))
    labels.append(Label("failed", {}, {"error": "did not converge"}))
    path = tmp_path / f"out.{suffix}"
    write_labelled(path, structures, labels)
    back = read_frames(path)
    assert len(back) == 2
    for atoms, label in zip(back, labels, strict=False):
        for name in ("energy", "forces", "charges", "dipole"):
            np.testing.assert_allclose(
                atoms.calc.results[name], label.arrays[name], atol=1e-7, err_msg=name
            )
        assert atoms.info["method"] == "GFN2-xTB"
        assert atoms.info["method_dispersion"] == "d4"
        assert atoms.info["converged"]
        assert atoms.info["charge"] == 0
    np.testing.assert_allclose(back[0].info["quadrupole"], np.diag([1.0, 2, 3]))
    assert back[0].info["cut_from"] == "box:3"
    if suffix == "db":
        for name in ("esp_points", "esp"):
            np.testing.assert_array_equal(back[0].info[name], labels[0].arrays[name])
    else:
        assert "esp" not in back[0].info
    (failure,) = read(tmp_path / "out.failed.extxyz", ":")
    assert failure.info["error"] == "did not converge"
    assert failure.calc is None


def test_command_line_cuts_chooses_and_labels(tmp_path: Path) -> None:
    pytest.importorskip("tblite", reason="tblite is an extra (labels)")
    from hff_ase.dynamics.build import build_box

    write(tmp_path / "md.extxyz", build_box("1.0 M LiPF6 in DMC", 120, seed=1))
    output = tmp_path / "out.extxyz"
    arguments = ["clusters", str(tmp_path / "md.extxyz"), "--around", "Li", "-n", "1"]
    arguments += ["--max-atoms", "14", "--method", "gfn2-xtb", "--workers", "0", "-o", str(output)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (atoms,) = read(output, ":")
    assert atoms.symbols[0] == "Li"
    assert atoms.info["cut_from"] == "md:0"
    assert len(list((tmp_path / "out.extxyz.jobs").iterdir())) == 1
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, HFFError)  # the output is there already
    relabel = ["frames", str(output), "--method", "gfn1-xtb", "--workers", "0"]
    result = CliRunner().invoke(app, [*relabel, "-o", str(tmp_path / "other.db")])
    assert result.exit_code == 0, result.output
    (other,) = read_frames(tmp_path / "other.db")
    n_li, n_p = (atoms.numbers == 3).sum(), (atoms.numbers == 15).sum()
    assert other.info["charge"] == atoms.info["charge"] == n_li - n_p
    assert other.info["method"] == "GFN1-xTB"
    assert abs(other.get_potential_energy() - atoms.get_potential_energy()) > 1.0
