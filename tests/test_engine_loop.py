"""Blocks of steps that nobody looks at: the same bits as one by one, and where they end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_engine import LennardJones, make_loop, moving, run_steps
from toy_md import argon

from hff_ase.dynamics.engine.limits import Limits
from hff_ase.dynamics.engine.torch import INTEGRATORS
from hff_ase.errors import HFFWarning, StructureError


class BreaksAt(LennardJones):
    """Gives no number from one evaluation on."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.call = call

    def forward(self, *args):
        energies = super().forward(*args)
        return energies * torch.nan if self.n_calls >= self.call else energies


@pytest.mark.parametrize("ensemble", INTEGRATORS)
def test_block_length_changes_no_bit(ensemble):
    """New searches happen at the same positions however long blocks are."""
    results = []
    for block in (1, 4, 13):
        loop = make_loop(
            ensemble, [moving(argon(2), 90, 1), moving(argon(2), 90, 2)], skin=0.4, block=block
        )
        rows = run_steps(loop, 100)
        assert loop.forces.neighbors.n_builds > 3
        assert loop.step == 100
        results.append((loop.state, rows, loop.forces.neighbors.n_builds))
    state, rows, n_builds = results[0]
    for other, other_rows, other_builds in results[1:]:
        assert other_builds == n_builds
        for name, tensor in state.tensors().items():
            assert torch.equal(tensor, other.tensors()[name]), name
        for name, series in rows.items():
            assert np.array_equal(series, other_rows[name]), name


def test_blocks_waste_few_evaluations():
    """Blocks are cut where the list is expected to fail: not half a block is lost per search."""
    term = LennardJones()
    loop = make_loop("nve", [moving(argon(2), 90, 1)], term, skin=0.5, block=20)
    n_steps = 200
    run_steps(loop, n_steps)
    n_builds = loop.forces.neighbors.n_builds
    assert n_builds > 6
    assert term.n_calls - n_steps < 4 * n_builds


def test_a_step_beyond_the_limits_ends_the_block():
    box = moving(argon(2), 90, 1)
    farthest = run_steps(make_loop("nve", [box]), 60)["displacement"][:, 0]
    limits = Limits(displacement=float(np.sort(farthest)[-1]) - 1e-12, temperature=1e5)
    loop = make_loop("nve", [box], block=16, limits=limits)
    rows = []
    while not rows or rows[-1][0, loop.columns.index("harmless")]:
        rows += loop.advance(16)
    assert len(rows) == 1 + int(np.argmax(farthest))
    assert loop.step == len(rows)
    alone = make_loop("nve", [box])
    run_steps(alone, len(rows))
    assert torch.equal(alone.state.positions, loop.state.positions)
    energy = loop.evaluation().energy
    assert torch.equal(energy, alone.evaluation().energy)
    run_steps(loop, 5)  # whoever looked closer may go on


@pytest.mark.parametrize("block", [1, 8])
def test_no_number_leaves_the_state_before(block):
    box = moving(argon(2), 90, 1)
    loop = make_loop("nvt", [box], BreaksAt(24), block=block)  # one evaluation at the start
    rows = [row for _ in range(3) for row in loop.advance(100 if block > 1 else 1)]
    with pytest.raises(StructureError, match="finite energy and finite forces"):
        run_steps(loop, 100)
    assert 3 <= len(rows) < 22 == loop.step
    expected = make_loop("nvt", [box])
    run_steps(expected, 22)
    assert torch.equal(expected.state.momenta, loop.state.momenta)


def test_without_a_graph_it_goes_on(monkeypatch):
    """A step that cannot be recorded is taken as it is, and that is said once."""

    def refuse(function):
        function()  # as the warming-up does
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr("hff_ase.dynamics.engine.torch.cuda_graph.record", refuse)
    box = moving(argon(2), 90, 1)
    loop = make_loop("nvt", [box], block=8, capture=True)
    with pytest.warns(HFFWarning, match="without a CUDA graph, slower: operation not") as warned:
        run_steps(loop, 40)
    assert len(warned) == 1
    expected = make_loop("nvt", [box])
    run_steps(expected, 40)
    assert torch.equal(expected.state.positions, loop.state.positions)


def test_a_recording_is_replayed_and_made_anew(monkeypatch):
    """With a stand-in for the graph: recorded once per search, replayed otherwise."""
    made = []

    class Graph:
        def __init__(self, function):
            self.replay = function
            made.append(self)

    def record(function):
        return Graph(function), function()  # the loop is idle now: nothing changes

    monkeypatch.setattr("hff_ase.dynamics.engine.torch.cuda_graph.record", record)
    monkeypatch.setattr("hff_ase.dynamics.engine.torch.cuda_graph.SHORT_LIFE", 1)
    box = moving(argon(2), 90, 1)
    loop = make_loop("npt", [box], block=8, skin=0.5, capture=True)
    rows = run_steps(loop, 120)
    assert 2 < len(made) <= loop.forces.neighbors.n_builds
    expected = run_steps(make_loop("npt", [box], skin=0.5), 120)
    for name, series in expected.items():
        assert np.array_equal(series, rows[name]), name


@pytest.mark.gpu
@pytest.mark.parametrize("ensemble", INTEGRATORS)
def test_graph_on_a_gpu(ensemble):
    """Recorded steps give what the CPU gives step by step."""
    boxes = [moving(argon(3), 90, 1), moving(argon(3), 70, 2)]
    expected = run_steps(make_loop(ensemble, boxes), 60)
    loop = make_loop(ensemble, boxes, device="cuda", block=10, capture=True)
    rows = run_steps(loop, 60)
    for name in ("potential", "kinetic", "conserved", "volume"):
        assert np.allclose(rows[name], expected[name], rtol=1e-7), name
