"""What is built, what is in it, and that it works away from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = (".*", "__pycache__", "*.egg-info", "dist", "demo", "runs")
SUFFIXES = {".py", ".typed", ".hff", ".md", ".npz", ".json", ".yaml", ".csv", ".gz"} | {
    ".j2", ".js", ".txt",  # the page of a report
}  # fmt: skip


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command without the PYTHONPATH of this process; fails with what it printed."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist and the wheel made from it, of a copy of the repository."""
    pytest.importorskip("build", reason="needs the package 'build': pip install '.[test]'")
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    run(sys.executable, "-m", "build", "--no-isolation", "-o", str(folder / "dist"), cwd=source)
    return folder / "dist"


def wheel_of(built: Path) -> Path:
    """The one wheel."""
    (wheel,) = built.glob("*.whl")
    return wheel


def packaged_sources() -> set[str]:
    """Every file of the package in the repository, as it should be called in a wheel."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder, _, names in os.walk(ROOT / "hff_ase", followlinks=True)
        for path in (Path(folder) / name for name in names)
        if path.suffix in SUFFIXES and "__pycache__" not in path.parts
    }


def test_links_are_links():
    for name in ("calculators", "dynamics"):
        link = ROOT / "hff_ase" / name
        assert link.is_symlink()
        assert os.readlink(link) == f"../{name}"


def test_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == packaged_sources()
    for expected in (
        "hff_ase/py.typed",
        "hff_ase/__main__.py",
        "hff_ase/calculators/hybrid.py",
        "hff_ase/dynamics/md/md_run.py",
        "hff_ase/dynamics/build/molecules.json",
        "hff_ase/dynamics/observables/block_average.py",
        "hff_ase/terms/data/d3_reference.npz",
    ):
        assert expected in inside
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_models_come_with_their_cards(built):
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        names = [n for n in wheel.namelist() if n.startswith("hff_ase/models/")]
    models = {Path(name).stem for name in names if name.endswith(".hff")}
    assert models == {path.stem for path in (ROOT / "hff_ase" / "models").glob("*.hff")}
    assert models <= {Path(name).stem for name in names if name.endswith(".md")}


def test_sdist_holds_files_instead_of_links(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    inside = {member.name.split("/", 1)[1] for member in members if member.isfile()}
    assert packaged_sources() <= inside
    assert {"pyproject.toml", "README.md", "LICENSE"} <= inside


def test_installed_wheel_works_elsewhere(built, tmp_path):
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    run(*pip, "--target", str(target), str(wheel_of(built)), cwd=elsewhere)
    code = (
        "import hff_ase, hff_ase.calculators, hff_ase.dynamics.build, hff_ase.testing\n"
        "from hff_ase.cli import main\n"
        "import importlib.util as u\n"
        "print(hff_ase.__file__)\n"
        "print(hff_ase.HybridFF.__module__, len(hff_ase.available_models()))\n"
        "assert not [n for n in ('calculators', 'dynamics', 'tests') if u.find_spec(n)]\n"
    )
    done = run(sys.executable, "-c", code, cwd=elsewhere, PYTHONPATH=str(target))
    where, class_ = done.stdout.splitlines()
    assert Path(where).is_relative_to(target)
    assert class_.startswith("hff_ase.calculators.hybrid ")
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert metadata["project"]["scripts"] == {"hff": "hff_ase.cli:main"}
    script = str(target / "bin" / "hff")
    version = run(script, "--version", cwd=elsewhere, PYTHONPATH=str(target)).stdout.strip()
    assert f"-{version}-" in wheel_of(built).name
    module = [sys.executable, "-m", "hff_ase", "--version"]
    assert run(*module, cwd=elsewhere, PYTHONPATH=str(target)).stdout.strip() == version


def test_wheel_has_its_script_and_no_code_of_others(built):
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        (points,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
        (top,) = (n for n in wheel.namelist() if n.endswith("top_level.txt"))
        assert "hff = hff_ase.cli:main" in wheel.read(points).decode()
        assert wheel.read(top).decode().split() == ["hff_ase"]
    assert wheel_of(built).name.endswith("py3-none-any.whl")  # pure: no compiler needed


def test_building_needs_nothing_but_setuptools():
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert [r.split(">")[0] for r in metadata["build-system"]["requires"]] == ["setuptools"]


def test_pins_are_those_of_the_dependencies():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    del extras["scatter"]  # built on the user's machine against whatever torch is there
    del extras["labels-gpu"]  # for CUDA only
    wanted = [*project["dependencies"], *(entry for extra in extras.values() for entry in extra)]
    names = {entry.split(">")[0].split("[")[0].lower() for entry in wanted}
    assert {name.lower() for name in pins} == names
