"""Inner steps: against plain steps, exact propagation, conservation, and exact resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.io import read
from core_models import hybrid
from torch import Tensor
from toy_engine import LIMITS, LennardJones, Traps, make_loop, moving, run_steps
from toy_md import CUTOFF, ListedLennardJones, argon, settings

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.engine.interface import choose_engine
from hff_ase.dynamics.engine.torch import INTEGRATORS, Noise, Respa, SplitForces, StepLoop
from hff_ase.dynamics.engine.torch.batch_engine import with_results
from hff_ase.dynamics.engine.torch.state import begin
from hff_ase.dynamics.md import MDRun
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.potential import HybridPotential
from hff_ase.terms.pairwise import share_pairs, switch_off
from hff_ase.terms.term import Fields, Term
from hff_ase.testing import ionic_box

ENSEMBLES = tuple(name for name in INTEGRATORS if name != "npt-scr")  # which has no inner steps


class KilledError(Exception):
    """Stands in for a power cut."""


class Hills(Term):
    """A soft repulsion (eV) of 2.5 Angstrom width, switched off between 3.5 and 5 Angstrom."""

    kind = "toy_hills"
    pair_request = PairRequest(CUTOFF, "half")
    n_calls = 0

    def __init__(self, height: float = 0.05, killed_at: int | None = None) -> None:
        super().__init__()
        self.height, self.killed_at = height, killed_at

    def requests(self) -> tuple[PairRequest, ...]:
        return (self.pair_request,)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        self.n_calls += 1
        if self.n_calls == self.killed_at:
            raise KilledError
        pairs = neighbors.pairs(self.pair_request)
        energy = self.height * torch.exp(-((pairs.distance / 2.5) ** 2))
        energy = energy * switch_off(pairs.distance, 3.5, CUTOFF)
        return share_pairs(energy, pairs, batch.n_atoms)


def near_and_far(fast: Term | None = None, slow: Term | None = None) -> HybridPotential:
    return HybridPotential({"near": fast or LennardJones(), "far": slow or Hills()})


def split_loop(
    ensemble: str,
    structures: list[Atoms],
    inner_steps: int | None,
    potential: HybridPotential | None = None,
    *,
    block: int = 1,
    skin: float = 1.0,
    device: str = "cpu",
    capture: bool = False,
    **conditions,
) -> StepLoop:
    """A loop with inner steps in the near part; None for plain steps in the whole."""
    potential = (potential or near_and_far()).to(device)
    plain = make_loop(ensemble, structures, Traps(), device=device, **conditions)
    held = plain.integrator.conditions
    if inner_steps is None:
        forces, integrator = Evaluator(potential, skin), plain.integrator
    else:
        forces = SplitForces(potential, potential.subset(["near"]).to(device), skin)
        integrator = Respa(INTEGRATORS[ensemble], held, inner_steps)
    state = plain.state
    state = begin(held, state.positions, state.momenta, state.cell)
    state = integrator.start(with_results(state, held, forces))
    noise = Noise(3, held.batch) if integrator.draws_noise else None
    return StepLoop(integrator, forces, state, 0, LIMITS, noise, block, capture)


def boxes() -> list[Atoms]:
    return [moving(argon(2), 90, 1), moving(argon(2), 60, 2)]


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_one_inner_step_is_a_plain_step(ensemble):
    settings = {"temperature": [90.0, 60.0], "pressure": [0.0, 0.003]}
    loops = [split_loop(ensemble, boxes(), inner, **settings) for inner in (1, None)]
    split, plain = (run_steps(loop, 25) for loop in loops)
    for name, series in plain.items():
        if name != "farthest":
            assert np.allclose(split[name], series, rtol=1e-9, atol=1e-10), name
    assert (loops[0].state.positions - loops[1].state.positions).abs().max() < 1e-10
    assert (loops[0].state.cell - loops[1].state.cell).abs().max() < 1e-10


def test_oscillators_step_by_step():
    """Two springs per atom: the textbook's nested loop, written out with numbers."""
    rng = np.random.default_rng(1)
    atoms = moving(Atoms("HOHF", positions=rng.normal(0, 0.1, (4, 3))), 300, 5)
    loop = split_loop("nve", [atoms], 3, near_and_far(Traps(5.0), Traps(0.7)), timestep=3.0)
    run_steps(loop, 20)
    masses, dt = atoms.get_masses()[:, None], 3.0 * units.fs
    x, p = atoms.positions.copy(), atoms.get_momenta()

    def force(stiffness: float) -> np.ndarray:
        gradient = stiffness * (x - x.mean(0))
        gradient -= gradient.mean(0)  # the traps follow the mean position
        return -(gradient - masses * gradient.sum(0) / masses.sum())

    for _ in range(20):
        p = p + dt / 2 * force(0.7)
        for _ in range(3):
            p = p + dt / 6 * force(5.0)
            x = x + dt / 3 * p / masses
            p = p + dt / 6 * force(5.0)
        p = p + dt / 2 * force(0.7)
    assert np.allclose(loop.state.positions.numpy(), x, atol=1e-12)
    assert np.allclose(loop.state.momenta.numpy(), p, atol=1e-12)


def test_reversible():
    loop = split_loop("nve", boxes()[:1], 4, timestep=8.0)
    before = loop.state.positions.clone()
    run_steps(loop, 25)
    assert (loop.state.positions - before).abs().max() > 0.2
    loop.state.momenta.neg_()
    run_steps(loop, 25)
    assert (loop.state.positions - before).abs().max() < 1e-9


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_conserved_energy_is_second_order(ensemble):
    """Half the outer step, a quarter of the error, with the slow part's virial on the cell.

    For Langevin dynamics the noise differs between the steps, and so do the trajectories.
    """
    spread = []
    for timestep in (8.0, 4.0):
        potential = near_and_far(slow=Hills(0.06))
        loop = split_loop(ensemble, boxes()[:1], 3, potential, timestep=timestep, pressure=0.003)
        known = run_steps(loop, round(400 / timestep))
        spread.append(known["conserved"].std(0).mean())
        assert spread[-1] < 0.1 * known["kinetic"].std(0).mean()
        momentum = loop.integrator.conditions.sum(loop.state.momenta)
        assert momentum.abs().max() < 1e-10
    low, high = (1.3, 10.0) if ensemble == "nvt" else (3.3, 4.7)
    assert low < spread[0] / spread[1] < high


def test_drift_is_that_of_the_inner_step():
    """A soft slow part costs little: near the short step's error, far below the long step's."""
    spread = {}
    for timestep, inner in ((2.0, None), (8.0, 4), (8.0, None)):
        potential = near_and_far(slow=Hills(0.05))
        loop = split_loop("nve", boxes()[:1], inner, potential, timestep=timestep)
        spread[timestep, inner] = run_steps(loop, round(400 / timestep))["conserved"].std()
    assert spread[8.0, 4] < 2 * spread[2.0, None] < 0.3 * spread[8.0, None]


@pytest.mark.parametrize(("ensemble", "inner_steps"), [("nvt", 2), ("nvt-nhc", 3)])
def test_equipartition(ensemble, inner_steps):
    """kT/2 for each of 3N - 3 modes, kinetic and potential, with the slow part's share."""
    rng = np.random.default_rng(1)
    replicas = [
        moving(Atoms("HOHF", positions=rng.normal(0, 0.1, (4, 3))), 300, seed)
        for seed in range(192)
    ]
    options = {"temperature": 300.0, "timestep": 6.0, "tdamp": 40.0, "friction": 10.0}
    potential = near_and_far(Traps(1.9), Traps(0.2))
    loop = split_loop(ensemble, replicas, inner_steps, potential, **options)
    known = run_steps(loop, 300)
    expected = 4.5 * units.kB * 300
    for name in ("kinetic", "potential"):
        means = known[name][50:].mean(0) / expected
        error = means.std(ddof=1) / np.sqrt(192)
        assert error < 0.02
        assert abs(means.mean() - 1) < 4 * error


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_block_length_changes_no_bit(ensemble):
    """Either list may fail at any inner step: the outer step is then taken with the host."""
    results = []
    for block in (1, 7):
        loop = split_loop(ensemble, boxes(), 3, skin=0.4, block=block, timestep=8.0)
        rows = run_steps(loop, 30)
        assert loop.forces.neighbors.n_builds > 2
        assert loop.forces.inner.neighbors.n_builds > 2
        results.append((loop.state, rows, loop.forces.version))
    (state, rows, version), (other, other_rows, other_version) = results
    assert version == other_version
    for name, tensor in state.tensors().items():
        assert torch.equal(tensor, other.tensors()[name]), name
    for name, series in rows.items():
        assert np.array_equal(series, other_rows[name]), name


def test_each_part_is_evaluated_once():
    """Per outer step: the whole once, the near part once per inner step besides."""
    potential = near_and_far()
    loop = split_loop("nve", boxes(), 4, potential)
    near, far = potential.terms["near"], potential.terms["far"]
    before = near.n_calls, far.n_calls
    run_steps(loop, 10)
    assert (near.n_calls - before[0], far.n_calls - before[1]) == (50, 10)


# --- as hff md runs it ---------------------------------------------------------------------

STAGES = ["npt:128fs", "nvt:128fs", "nvt-nhc:80fs", "nve:48fs"]
OUTPUTS = ("statistics.dat", "trajectory.extxyz", "final.extxyz")


def calculator(killed_at: int | None = None) -> HybridFF:
    potential = near_and_far(slow=Hills(killed_at=killed_at))
    return HybridFF(potential, dtype="float64", skin=0.5)


def run(folder: Path, calc: HybridFF, **options) -> MDRun:
    split = {"engine": "torch", "inner_without": ["far"], "inner_steps": 3, "timestep": 8.0}
    config = settings(str(folder), STAGES, **{**split, **options})
    return MDRun.start(config, argon(2), calc)


def test_every_moment_resumes_exactly(tmp_path):
    run(tmp_path / "whole", calculator()).run()
    killed = run(tmp_path / "cut", calculator(killed_at=9), checkpoint_interval=5)
    for calls in (12, 17, 14):
        with pytest.raises(KilledError):
            killed.run()
        killed = MDRun.resume(tmp_path / "cut", calculator(killed_at=calls))
    MDRun.resume(tmp_path / "cut", calculator()).run()
    for name in OUTPUTS:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_inner_model(tmp_path):
    """The model itself from its file as the inner one: plain steps of half the length."""
    calc = HybridFF(hybrid(tolerance=1e-5), dtype="float64")
    box = ionic_box()
    calc.save(tmp_path / "small.hff", [box])
    ends = []
    for name, options in (
        ("plain", {"timestep": 0.2}),
        ("split", {"timestep": 0.4, "inner_model": str(tmp_path / "small.hff"), "inner_steps": 2}),
    ):
        config = settings(
            str(tmp_path / name), ["nve:2fs"], engine="torch", minimize=False, dtype="float64",
            temperature=30.0, max_temperature=1e6, max_displacement=5.0, **options,
        )  # fmt: skip
        MDRun.start(config, box, calc).run()
        ends.append(read(tmp_path / name / "final.extxyz"))
    plain, split = ends
    assert np.abs(plain.positions - box.positions).max() > 1e-3
    assert np.allclose(plain.positions, split.positions, atol=1e-7)
    assert np.allclose(plain.get_momenta(), split.get_momenta(), atol=1e-6)


def test_what_cannot_be_split(tmp_path):
    def chosen(calc, **options):
        return choose_engine(settings(str(tmp_path), ["nve:1ps"], **options), calc)

    two = {"inner_steps": 2}
    with pytest.raises(ConfigError, match="engine torch with a HybridFF for inner steps"):
        chosen(ListedLennardJones(), inner_without=["far"], **two)
    with pytest.raises(ConfigError, match="for inner steps, got engine ase"):
        chosen(calculator(), engine="ase", inner_without=["far"], **two)
    with pytest.raises(ConfigError, match=r"among the terms \['near', 'far'\], got 'mesh'"):
        chosen(calculator(), inner_without=["mesh"], **two)
    with pytest.raises(ConfigError, match="leave one of the terms"):
        chosen(calculator(), inner_without=["near", "far"], **two)
    with pytest.raises(ConfigError, match="needs the field"):
        chosen(HybridFF(hybrid()), inner_without=["charges"], **two)
    assert chosen(calculator(), inner_without=["far"], **two).engine == "torch"


def test_a_state_without_its_share():
    loop = split_loop("nve", boxes(), 2)
    plain = split_loop("nve", boxes(), None)
    with pytest.raises(ValueError, match="split state and split forces"):
        loop.integrator.step(plain.state, None, loop.forces, lambda forces, batch: None)


@pytest.mark.gpu
@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_graph_on_a_gpu(ensemble):
    """Recorded outer steps give what the CPU gives step by step."""
    expected = run_steps(split_loop(ensemble, boxes(), 3), 40)
    loop = split_loop(ensemble, boxes(), 3, device="cuda", block=10, capture=True)
    rows = run_steps(loop, 40)
    for name in ("potential", "kinetic", "conserved", "volume"):
        assert np.allclose(rows[name], expected[name], rtol=1e-7), name
