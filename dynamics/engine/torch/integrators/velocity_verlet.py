r"""One step of molecular dynamics, for many systems at once, as two pure functions of the state.

Every ensemble is the same symmetric splitting with another middle:

    kick dt/2 - drift dt/2 - middle dt - drift dt/2 - (forces) - kick dt/2

With nothing in the middle this is velocity Verlet, with an Ornstein-Uhlenbeck process BAOAB
(Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34), with a chain the middle scheme of
Zhang et al. (J. Chem. Phys. 147, 034109 (2017)). A thermostat in the middle samples positions of a
harmonic oscillator exactly whatever the time step; momenta are exact in the middle, while those at
the end of a step are too cold by the factor 1 - (omega dt)^2/4, 8 % for a C-H stretch at 1 fs.
Temperature and pressure are therefore reported with the kinetic energy of the middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.engine.torch.forces import Forces
from hff_ase.dynamics.engine.torch.state import Conditions, State, with_evaluation
from hff_ase.passes import Evaluation

Evaluate = Callable[[Forces, AtomsBatch], Evaluation]  # of the loop, checked now or later


class Integrator:
    """Velocity Verlet, the microcanonical ensemble; the base of the others.

    Args:
        conditions: what is held constant.

    Attributes:
        draws_noise: whether a step needs normal random numbers.
        noise_width: how many of them per atom and draw.
        moves_cell: whether the cell changes.
        thermostatted: whether `middle` sets the reported ``kinetic`` energy.
        has_flow: whether the atoms flow, with the amplitude `flow`.
        draws: how often `middle` runs per step, each time with its own random numbers.
    """

    draws_noise = False
    noise_width = 3
    thermostatted = False
    moves_cell = False
    has_flow = False
    draws = 1

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.dt = conditions.timestep

    def start(self, state: State) -> State:
        """The state at the start of a stage of this ensemble: thermostat and barostat at rest,
        no heat exchanged yet; positions, momenta and forces as they are."""
        zero, none = torch.zeros_like(state.energy), state.chain.new_zeros(len(state.cell), 0, 0)
        kinetic = self.conditions.kinetic(state.momenta)
        return replace(
            state, kinetic=kinetic, heat=zero, p_volume=zero, chain=none, p_chain=none.clone()
        )

    def step(
        self, state: State, noise: Tensor | None, forces: Forces, evaluate: Evaluate
    ) -> tuple[State, Evaluation]:
        """A whole time step with one evaluation of the potential.

        Args:
            state: after the last step.
            noise: standard normal numbers [draws, n_atoms, noise_width] where `draws_noise`.
            forces: of the potential.
            evaluate: how the loop has them evaluated (`StepLoop` checks results itself).

        Returns:
            The state after the step, and the evaluation of the potential at its positions.
        """
        proposal = self.first(state, None if noise is None else noise[0])
        evaluation = evaluate(forces, self.conditions.moved(proposal))
        return self.second(with_evaluation(proposal, self.conditions, evaluation)), evaluation

    def first(self, state: State, noise: Tensor | None = None) -> State:
        """The part of a step before the potential is evaluated: half a kick, and the drift with
        the thermostat in its middle. The state has new positions and cells, and old forces.

        Args:
            state: after the last step.
            noise: standard normal numbers [n_atoms, noise_width] where `draws_noise`.
        """
        return self.drift(self.middle(self.drift(self.kick(state)), noise))

    def second(self, state: State) -> State:
        """The part of a step after the potential was evaluated: the other half of the kick."""
        state = self.kick(state)
        if self.thermostatted:
            return state
        return replace(state, kinetic=self.conditions.kinetic(state.momenta))

    def kick(self, state: State) -> State:
        """Half a time step of the forces: p -> p + F dt/2 (and, with a barostat, of the virial)."""
        return replace(state, momenta=state.momenta + 0.5 * self.dt * state.forces)

    def push(self, state: State, time: float, forces: Tensor, stress: Tensor) -> State:
        """A kick by other forces than the state's, such as the slow ones of `Respa`.

        Args:
            state: whose momenta change.
            time: for which the forces act, ASE time.
            forces: [n_atoms, 3], eV/Angstrom.
            stress: [n_systems, 3, 3], eV/Angstrom^3; acts on the cell where there is a barostat.
        """
        return replace(state, momenta=state.momenta + time * forces)

    def drift(self, state: State) -> State:
        """Half a time step of free motion: r -> r + p/m dt/2 (and of the cell, with a barostat)."""
        step = 0.5 * self.dt * state.momenta / self.conditions.masses
        return replace(state, positions=state.positions + step)

    def middle(self, state: State, noise: Tensor | None) -> State:
        """A whole time step of the thermostat; nothing in the microcanonical ensemble.

        Args:
            state: in the middle of the drift.
            noise: as for `first`.
        """
        return state

    def flow(self, state: State) -> Tensor:
        """Amplitude of the flow where there is one (`has_flow`), [n_systems], ASE velocity."""
        return torch.zeros_like(state.energy)

    def conserved(self, state: State) -> Tensor:
        """The quantity that exact dynamics conserves, float64 [n_systems], eV: here potential and
        kinetic energy. Its drift measures the error of the time step."""
        return state.energy + self.conditions.kinetic(state.momenta)
