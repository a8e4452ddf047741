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
from hff_ase.potential import Evaluation

Evaluate = Callable[[Forces, AtomsBatch], Evaluation]  # of the loop, checked now or later


class Integrator:
    """Velocity Verlet, the microcanonical ensemble; the base of the others.

    Args:
        conditions: what is held constant.

    Attributes:
        draws_noise: `first` needs normal random numbers.
        noise_width: how many of them per atom.
        moves_cell: the cell changes.
        thermostatted: the middle sets ``kinetic``.
        draws: how many middles a step has, each with its own random numbers.
    """

    draws_noise = False
    noise_width = 3
    thermostatted = False
    moves_cell = False
    draws = 1

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.dt = conditions.timestep

    def start(self, state: State) -> State:
        """A state at the start of this ensemble: thermostat and barostat at rest."""
        zero, none = torch.zeros_like(state.energy), state.chain.new_zeros(len(state.cell), 0, 0)
        kinetic = self.conditions.kinetic(state.momenta)
        return replace(
            state, kinetic=kinetic, heat=zero, p_volume=zero, chain=none, p_chain=none.clone()
        )

    def step(
        self, state: State, noise: Tensor | None, forces: Forces, evaluate: Evaluate
    ) -> tuple[State, Evaluation]:
        """A whole step.

        Args:
            state: after the last step.
            noise: standard normal numbers [draws, n_atoms, noise_width] where `draws_noise`.
            forces: of the potential.
            evaluate: how the loop has them evaluated.
        """
        proposal = self.first(state, None if noise is None else noise[0])
        evaluation = evaluate(forces, self.conditions.moved(proposal))
        return self.second(with_evaluation(proposal, self.conditions, evaluation)), evaluation

    def first(self, state: State, noise: Tensor | None = None) -> State:
        """The part of a step before new forces: the state with the new positions and cells.

        Args:
            state: after the last step.
            noise: standard normal numbers [n_atoms, noise_width] where `draws_noise`.
        """
        return self.drift(self.middle(self.drift(self.kick(state)), noise))

    def second(self, state: State) -> State:
        """The part of a step after new forces."""
        state = self.kick(state)
        if self.thermostatted:
            return state
        return replace(state, kinetic=self.conditions.kinetic(state.momenta))

    def kick(self, state: State) -> State:
        """Half a step of forces."""
        return replace(state, momenta=state.momenta + 0.5 * self.dt * state.forces)

    def push(self, state: State, time: float, forces: Tensor, stress: Tensor) -> State:
        """Some time of forces besides those of the steps, with their stress."""
        return replace(state, momenta=state.momenta + time * forces)

    def drift(self, state: State) -> State:
        """Half a step of motion."""
        step = 0.5 * self.dt * state.momenta / self.conditions.masses
        return replace(state, positions=state.positions + step)

    def middle(self, state: State, noise: Tensor | None) -> State:
        """A whole step of the thermostat: none here."""
        return state

    def conserved(self, state: State) -> Tensor:
        """What the exact dynamics conserves, [n_systems], eV."""
        return state.energy + self.conditions.kinetic(state.momenta)
