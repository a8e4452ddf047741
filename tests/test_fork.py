"""Processes made by fork after torch has used several threads: they compute, and do not wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Large enough for torch to share out; without the package such a child waits forever.
PROGRAM = """
import multiprocessing, sys
import torch
from conftest import salt_box
from hff_ase.calculators import HybridFF

torch.set_num_threads(2)
calc = HybridFF.load(sys.argv[1])

def work(queue=None):
    x = torch.ones(600, 600)
    total = float((x @ x).sum()) + float(torch.ones(10**6).exp().sum())
    atoms = salt_box()
    atoms.calc = calc
    found = (total, atoms.get_potential_energy(), torch.get_num_threads())
    if queue is not None:
        queue.put(found)
    return found

here = work()
context = multiprocessing.get_context("fork")
queue = context.Queue()
child = context.Process(target=work, args=(queue,))
child.start()
there = queue.get(timeout=60)
child.join(60)
assert child.exitcode == 0
assert abs(there[0] - here[0]) < 1.0 and abs(there[1] - here[1]) < 1e-4, (here, there)
print("threads", here[2], there[2])
"""


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no fork on this system")
def test_a_forked_child_computes(small_model_path: Path) -> None:
    folder = Path(__file__).parent
    path = os.pathsep.join([str(folder), str(folder.parent)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small_model_path)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["threads", "2", "1"]
