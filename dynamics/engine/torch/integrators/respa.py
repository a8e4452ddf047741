r"""Two time steps in one: a cheap potential every inner step, what it lacks once per outer step.

The reversible reference system propagator of Tuckerman, Berne and Martyna (J. Chem. Phys. 97, 1990
(1992), section II) in velocity-Verlet form:

    slow kick dt/2 - n inner steps of dt/n - slow kick dt/2

An inner step is that of an ensemble in the cheap potential, thermostat and barostat included (their
XI form for extended systems, Martyna et al., Mol. Phys. 87, 1117 (1996)): every part is a flow of
its own part of the Hamiltonian, the slow virial's kick on the cell too, so that all ensembles stay
what they are, to second order in the outer step. The whole potential is evaluated once per outer
step, at its end; the slow force is what it gives less the cheap force there, which the last inner
step has found already.

The slow force must be slow: an outer step near half the period of a mode, 5.5 fs for C-H, feeds
that mode however small the kicks are (Ma, Izaguirre and Skeel, SIAM J. Sci. Comput. 24, 1951
(2003)); Langevin dynamics damps this, and hides it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor

from hff_ase.dynamics.engine.torch.forces import Forces, SplitForces
from hff_ase.dynamics.engine.torch.integrators.velocity_verlet import Evaluate, Integrator
from hff_ase.dynamics.engine.torch.state import (
    Conditions,
    State,
    forces_and_stress,
    with_evaluation,
)
from hff_ase.passes import Evaluation


@dataclass(frozen=True)
class SplitState(State):
    """A state that holds the cheap potential's share as well.

    Attributes:
        fast_forces: [n_atoms, 3], eV/Angstrom, part of ``forces``.
        fast_stress: [n_systems, 3, 3], eV/Angstrom^3, part of ``stress``.
    """

    fast_forces: Tensor
    fast_stress: Tensor


class Respa(Integrator):
    """An ensemble with inner steps.

    Its state is a `SplitState` (see `split_state`), its forces are a `SplitForces`. The kinetic
    energy that is reported is that of the inner step in the middle.

    Args:
        ensemble: the integrator of an inner step.
        conditions: what is held constant; the time step is the outer one.
        inner_steps: per outer step.
    """

    def __init__(
        self, ensemble: type[Integrator], conditions: Conditions, inner_steps: int
    ) -> None:
        super().__init__(conditions)
        self.inner = ensemble(replace(conditions, timestep=conditions.timestep / inner_steps))
        self.draws = inner_steps
        self.draws_noise = self.inner.draws_noise
        self.thermostatted = self.inner.thermostatted
        self.moves_cell = self.inner.moves_cell

    def start(self, state: State) -> State:
        """As the inner integrator starts a stage."""
        return self.inner.start(state)

    def conserved(self, state: State) -> Tensor:
        """The inner integrator's conserved quantity with the whole potential, [n_systems], eV."""
        return self.inner.conserved(state)

    def step(
        self, state: State, noise: Tensor | None, forces: Forces, evaluate: Evaluate
    ) -> tuple[State, Evaluation]:
        """An outer time step: the whole potential once, the cheap one at every inner step.

        Args:
            state: with the cheap potential's share (`split_state`).
            noise: standard normal numbers [inner_steps, n_atoms, noise_width], or None.
            forces: of both potentials.
            evaluate: how the loop has them evaluated.

        Raises:
            ValueError: a state or forces that are not split.
        """
        if not isinstance(state, SplitState) or not isinstance(forces, SplitForces):
            raise ValueError(
                "expected a split state and split forces for inner steps, got "
                f"{type(state).__name__} and {type(forces).__name__}"
            )
        moving = slow_kick(self.inner, state, 0.5 * self.dt)
        kinetic = moving.kinetic
        moving = replace(moving, forces=moving.fast_forces, stress=moving.fast_stress)
        for index in range(self.draws):
            proposal = self.inner.first(moving, None if noise is None else noise[index])
            result = evaluate(forces.inner, self.conditions.moved(proposal))
            proposal = with_evaluation(proposal, self.conditions, result)
            moving = cast(SplitState, self.inner.kick(proposal))
            if index == self.draws // 2:
                kinetic = moving.kinetic
        moving = replace(moving, fast_forces=moving.forces, fast_stress=moving.stress)
        result = evaluate(forces, self.conditions.moved(moving))
        new = with_evaluation(moving, self.conditions, result)
        new = slow_kick(self.inner, cast(SplitState, new), 0.5 * self.dt)
        if not self.thermostatted:
            kinetic = self.conditions.kinetic(new.momenta)
        return replace(new, kinetic=kinetic), result


def split_state(state: State, conditions: Conditions, inner: Evaluation) -> SplitState:
    """A state with the cheap potential's share of forces and stress.

    Args:
        state: with the forces of the whole potential.
        conditions: what is held constant.
        inner: the cheap potential's evaluation at the same positions.
    """
    forces, stress = forces_and_stress(inner)
    fast_forces = conditions.without_drift(forces.double())
    return SplitState(**state.tensors(), fast_forces=fast_forces, fast_stress=stress)


def slow_kick(integrator: Integrator, state: SplitState, time: float) -> SplitState:
    """A kick by the slow forces: those of the whole potential less those of the cheap one.

    Args:
        integrator: of the ensemble, which knows what stress does to the cell.
        state: with both.
        time: for which they act, ASE time.
    """
    forces, stress = state.forces - state.fast_forces, state.stress - state.fast_stress
    return cast(SplitState, integrator.push(state, time, forces, stress))
