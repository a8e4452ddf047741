"""Langevin dynamics (BAOAB) with the centre of mass at rest."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from hff_ase.dynamics.engine.torch.integrators.velocity_verlet import Integrator
from hff_ase.dynamics.engine.torch.state import Conditions, State


class Langevin(Integrator):
    r"""The middle is :math:`p \to c p + \sqrt{(1 - c^2) m k_B T} \xi` with :math:`c = e^{-g dt}`.

    g is the friction. The noise is projected on zero total momentum: with one friction for all
    atoms, what is left is the exact process of the other 3N - 3 momenta. The heat that it brings in
    is accumulated, so that energy less heat is conserved up to the error of the time step.
    """

    draws_noise = True
    thermostatted = True

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        self._keep = math.exp(-conditions.friction * self.dt)
        variance = (1.0 - self._keep**2) * conditions.spread(conditions.kt) * conditions.masses
        self._strength = torch.sqrt(variance)  # [n_atoms, 1]

    def middle(self, state: State, noise: Tensor | None) -> State:
        """A time step of the Ornstein-Uhlenbeck process, exact; the kinetic energy that it adds is
        counted as heat. ``noise`` [n_atoms, 3] is standard normal.

        Raises:
            ValueError: no noise.
        """
        if noise is None:
            raise ValueError("expected noise for Langevin dynamics, got none")
        conditions = self.conditions
        before = conditions.kinetic(state.momenta)
        random = conditions.without_drift(self._strength * noise)
        momenta = self._keep * state.momenta + random
        kinetic = conditions.kinetic(momenta)
        return replace(state, momenta=momenta, kinetic=kinetic, heat=state.heat + kinetic - before)

    def conserved(self, state: State) -> Tensor:
        """Potential and kinetic energy less the heat from the thermostat, [n_systems], eV."""
        return super().conserved(state) - state.heat
