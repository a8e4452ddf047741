"""The examples and the README's first snippet run as they stand, and give what they promise."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from ase.io import write

from hff_ase.dynamics.build import build_box

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


LONG = {"trpmd_infrared"}  # by name


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in LONG else ()) for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed
    assert "nan" not in printed


def test_an_ion_pair_binds_at_contact_and_is_ionic_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runpy.run_path(str(ROOT / "examples/evaluate_many.py"), run_name="__main__")
    numbers = [
        [float(x) for x in re.findall(r"[-+]?\d+\.\d+", line)]
        for line in capsys.readouterr().out.splitlines()
    ]
    distance, energy, coulomb = np.array(numbers)[:, :3].T
    assert energy.argmin() < np.searchsorted(distance, 4.0)
    # two separate ions: the Coulomb energy falls as -k_e q^2/r, |q| about 0.6 to 1
    slope = (coulomb[-1] - coulomb[-2]) / (1 / distance[-1] - 1 / distance[-2])
    assert -14.4 * 1.2 < slope < -14.4 * 0.2


def test_readme_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text()
    first, batched = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[:2]
    monkeypatch.chdir(tmp_path)
    box = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 200)
    write("box.extxyz", box)
    names: dict[str, object] = {}
    exec(compile(first, "README.md", "exec"), names)
    names |= {"calc": names["atoms"].calc, "atoms1": box, "atoms2": box[:10], "atoms3": box}
    exec(compile(batched, "README.md", "exec"), names)
    single = names["atoms"].get_potential_energy()
    assert [r["energy"] for r in names["results"]][::2] == pytest.approx([single] * 2, abs=1e-4)
    assert sum(names["atoms"].calc.energy_terms.values()) == pytest.approx(single)
