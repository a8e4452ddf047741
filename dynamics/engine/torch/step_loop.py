"""Many steps between two synchronisations with the host.

A block of steps runs on the device without the host knowing how it goes. A step is taken only if
the neighbour list still holds at its positions and its results are finite; otherwise it leaves the
state alone, and so do all that follow. The host then finds the state where the list failed, takes
this one step itself, with a new search, and continues with blocks. The search thus happens at the
same positions as if every step had been looked at: results do not depend on the length of blocks,
bit for bit, and a checkpoint may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from ase import units
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.engine.limits import Limits
from hff_ase.dynamics.engine.torch.cuda_graph import CapturedStep
from hff_ase.dynamics.engine.torch.forces import Forces
from hff_ase.dynamics.engine.torch.integrators.velocity_verlet import Integrator
from hff_ase.dynamics.engine.torch.noise import Noise
from hff_ase.dynamics.engine.torch.record import COLUMNS, column_names, measure
from hff_ase.dynamics.engine.torch.state import State, forces_and_stress
from hff_ase.passes import Evaluation
from hff_ase.terms.uniform_field import clocks_of

NOISE_AHEAD = 2**16  # atom steps; drawn together, because small tensors cost as much as large ones


class StepLoop:
    """Moves the systems of one ensemble.

    Args:
        integrator: of the ensemble.
        forces: of the potential.
        state: where to start, with forces.
        step: number of steps that were taken before (the noise depends on it).
        limits: a step beyond them ends a block.
        noise: where the integrator draws noise.
        block: steps between two looks; 1 looks at every step.
        capture: record a step as a CUDA graph.
        tensor: whether the pressure tensor is among the columns.
    """

    def __init__(
        self,
        integrator: Integrator,
        forces: Forces,
        state: State,
        step: int,
        limits: Limits,
        noise: Noise | None = None,
        block: int = 1,
        capture: bool = False,
        tensor: bool = False,
    ) -> None:
        self.integrator, self.forces, self.step = integrator, forces, step
        self._limits, self._noise, self._block = limits, noise, block
        self._tensor = tensor
        # a block writes the state in place: what is handed out must not change behind
        self._state = replace(state, **{k: v.clone() for k, v in state.tensors().items()})
        self._evaluation: Evaluation | None = None
        self._random: tuple[int, Tensor] | None = None
        self._pace = Pace(block)
        self._columns: list[str] = []
        device = state.positions.device
        self._rows = torch.empty(0, device=device)
        self._drawn = torch.empty(0, device=device)
        self._going = torch.zeros((), dtype=torch.bool, device=device)
        self._count = torch.zeros(1, dtype=torch.int64, device=device)
        self._clocks = clocks_of(getattr(forces, "potential", None))
        self._ps = integrator.conditions.timestep / (1000.0 * units.fs)  # of a step
        self._run_tick: Callable[[], Evaluation] = self._tick
        if capture:
            self._run_tick = CapturedStep(self._tick, lambda: forces.layout, self._idle)

    @property
    def state(self) -> State:
        """After the last step that was taken."""
        return self._state

    @property
    def columns(self) -> list[str]:
        """Names of the columns that `advance` gives (known after the first step or `here`)."""
        return self._columns

    def here(self) -> Tensor:
        """The columns of the present state, [n_systems, n_columns], on the host."""
        evaluation = self.evaluation()
        row, _ = self._measure(self._state, evaluation)
        return row.to("cpu", copy=True)

    def evaluation(self) -> Evaluation:
        """The results at the state."""
        if self._evaluation is None:
            self._set_clocks(self.step)
            here = self.integrator.conditions.moved(self._state)
            self._evaluation = self.forces.evaluate_prepared(here)
        return self._evaluation

    def advance(self, n_steps: int) -> Tensor:
        """Take up to ``n_steps`` steps, at least one; the last may lie beyond the limits.

        Returns:
            What is known of each step taken, [count, n_systems, n_columns], on the host.

        Raises:
            StructureError: a step fails; the state is left before it.
        """
        n_steps = self._pace.next_block(n_steps)
        if n_steps == 0:
            return self._look()
        rows = self._run_block(n_steps)
        return rows if len(rows) else self._look()

    def _look(self) -> Tensor:
        """One step under the eyes of the host."""
        noise = self._noise_of(1)
        before = self.forces.version
        self._set_clocks(self.step + 1)
        new, evaluation = self.integrator.step(
            self._state, None if noise is None else noise[0], self.forces, checked
        )
        row, _ = self._measure(new, evaluation)
        self._store(new, None)
        self._evaluation = evaluation
        self.step += 1
        self._pace.looked(searched=self.forces.version != before)
        return row[None].to("cpu", copy=True)

    def _run_block(self, n_steps: int) -> Tensor:
        self._make_room()
        self._count.zero_()
        self._going.fill_(True)
        noise = self._noise_of(n_steps)
        if noise is not None:
            self._drawn[:n_steps] = noise
        for _ in range(n_steps):
            self._evaluation = self._run_tick()
        count = int(self._count)
        rows = self._rows[:count].to("cpu", copy=True)
        self.step += count
        failed = count < n_steps
        if failed:
            self._evaluation = None  # of a step that was not taken
        beyond = count > 0 and not bool(rows[-1, :, COLUMNS.index("harmless")].all())
        self._pace.ran(count, must_look=failed and not beyond)
        return rows

    def _tick(self) -> Evaluation:
        """One step that nobody looks at; everything stays on the device, in place."""
        noise = self._drawn.index_select(0, self._count)[0] if len(self._drawn) else None
        unseen = Unseen(self._going)
        if self._clocks:
            self._set_clocks(self._count[0] + (self.step + 1))
        new, evaluation = self.integrator.step(self._state, noise, self.forces, unseen)
        row, harmless = self._measure(new, evaluation)
        taken = unseen.sound
        self._rows.index_copy_(0, self._count, row[None])
        self._store(new, taken)
        self._count += taken
        self._going.copy_(taken & harmless)
        return evaluation

    def _set_clocks(self, step: int | Tensor) -> None:
        """What depends on time is evaluated at the end of this step."""
        for clock in self._clocks:
            clock.copy_(torch.as_tensor(step * self._ps, dtype=clock.dtype))

    def _idle(self) -> Callable[[], None]:
        """Let ticks change nothing, until what is returned is called (between blocks only)."""
        self._going.fill_(False)
        return lambda: cast(None, self._going.fill_(True))

    def _measure(self, new: State, evaluation: Evaluation) -> tuple[Tensor, Tensor]:
        row, harmless = measure(
            self.integrator, self._state, new, evaluation, self._limits, self._tensor
        )
        terms, flows = list(evaluation.energy_terms), self.integrator.has_flow
        self._columns = self._columns or column_names(terms, self._tensor, flows)
        return row, harmless

    def _store(self, new: State, taken: Tensor | None) -> None:
        fresh = new.tensors()
        for name, tensor in self._state.tensors().items():
            value = fresh[name]
            tensor.copy_(value if taken is None else torch.where(taken, value, tensor))

    def _noise_of(self, n_steps: int) -> Tensor | None:
        """Noise of the next steps, [n_steps, draws, n_atoms, noise_width]."""
        if self._noise is None:
            return None
        draws, positions = self.integrator.draws, self._state.positions
        first, drawn = self._random or (0, positions[:0])
        if not (first <= self.step and self.step + n_steps <= first + len(drawn)):
            ahead = max(n_steps, NOISE_AHEAD // (draws * len(positions)))
            width = self.integrator.noise_width
            drawn = self._noise.steps(self.step * draws, ahead * draws, width)
            first, drawn = self.step, drawn.unflatten(0, (ahead, draws))
            self._random = first, drawn
        return drawn[self.step - first : self.step - first + n_steps]

    def _make_room(self) -> None:
        """Where a block writes; the same memory for every block."""
        if not len(self._rows):
            shape = (self._block, len(self._state.cell), len(self._columns))
            self._rows = self._state.energy.new_zeros(shape)
            if self._noise is not None:
                own = self.integrator
                drawn = (self._block, own.draws, len(self._state.positions), own.noise_width)
                self._drawn = self._state.positions.new_zeros(drawn)


def checked(forces: Forces, batch: AtomsBatch) -> Evaluation:
    """An evaluation that is checked on the host."""
    return forces.evaluate(batch)


class Unseen:
    """Evaluations without synchronisation with the host.

    Attributes:
        sound: whether lists held at every one of them and their results are finite, bool [].
    """

    def __init__(self, going: Tensor) -> None:
        self.sound = going

    def __call__(self, forces: Forces, batch: AtomsBatch) -> Evaluation:
        """An evaluation with what is prepared."""
        sound = self.sound & ~forces.outdated(batch)
        evaluation = forces.evaluate_prepared(batch)
        for result in (evaluation.energy, *forces_and_stress(evaluation)):
            sound &= torch.isfinite(result).all()
        self.sound = sound
        return evaluation


class Pace:
    """How many steps the next block takes: it should not run on where the list has failed.

    Lists live about as long as the one before; blocks end there, and are of one step
    thereafter.
    """

    def __init__(self, block: int) -> None:
        self._block = block
        self._lived = 0  # steps of this list
        self._expected: int | None = None  # of the one before
        self._must_look = True

    def next_block(self, n_steps: int) -> int:
        """Steps of the next block; 0 to look at one."""
        if self._must_look or self._block == 1:
            return 0
        size = min(self._block, n_steps)
        if self._expected is not None:
            left = self._expected - self._lived
            size = min(size, max(left, 1))
        return size

    def ran(self, count: int, must_look: bool) -> None:
        """A block took ``count`` steps."""
        self._lived += count
        self._must_look = must_look

    def looked(self, searched: bool) -> None:
        """One step was taken that is checked on the host."""
        self._must_look = False
        if searched:
            self._expected = self._lived or None
            self._lived = 0
        self._lived += 1
