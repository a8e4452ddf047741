r"""Isothermal-isobaric dynamics with isotropic volume changes (Martyna, Tobias and Klein).

The equations of motion are those of J. Chem. Phys. 101, 4177 (1994), eq. 2.9, with
:math:`\lambda = p_\epsilon/W`, :math:`\alpha = 1 + 3/N_f` and the kinetic energy K:

.. math:: \dot r = p/m + \lambda r, \quad \dot p = F - \alpha \lambda p, \quad
    \dot V = 3 \lambda V, \quad \dot p_\epsilon = 3 V (P_{virial} - P) + 2 \alpha K

and one chain each for :math:`p` and :math:`p_\epsilon`. They are split into flows that are solved
exactly and keep the measure of phase space: a kick by forces and the virial; a drift in which
positions, cell and momenta scale together at constant :math:`\lambda`; in the middle a half kick of
:math:`p_\epsilon` by K, the chains, and another half. K is thus taken where it is right (see
`integrators`), and the mean of the reported pressure is the one that was asked for.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hff_ase.dynamics.engine.torch.integrators.nose_hoover import Chains
from hff_ase.dynamics.engine.torch.integrators.velocity_verlet import Integrator
from hff_ase.dynamics.engine.torch.state import Conditions, State, volume
from hff_ase.errors import ConfigError


class MTK(Integrator):
    """Isothermal-isobaric ensemble: isotropic cell, chains on particles and barostat.

    Args:
        conditions: with the pressure, and time constants ``tdamp`` and ``pdamp``.

    Raises:
        ConfigError: a system without a periodic cell.
    """

    moves_cell = True
    thermostatted = True

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        if not conditions.batch.all_periodic:
            raise ConfigError("expected a periodic box for npt, got a structure without one")
        thermal, kt = conditions.thermal, conditions.kt
        self._alpha = 1.0 + 3.0 / thermal
        self._mass = (thermal + 3.0) * kt * conditions.pdamp**2
        damping = conditions.masses.new_tensor([conditions.tdamp, conditions.pdamp])
        numbers = torch.stack([thermal, torch.ones_like(thermal)], dim=1)
        self._chains = Chains.make(numbers, kt, damping)

    def start(self, state: State) -> State:
        """The state at the start of a stage, barostat and chains at rest."""
        rest = torch.zeros_like(self._chains.mass)
        return replace(super().start(state), chain=rest, p_chain=rest.clone())

    def kick(self, state: State) -> State:
        """Half a time step of the forces, and of virial and outer pressure on the barostat."""
        trace = state.stress.diagonal(dim1=-2, dim2=-1).sum(-1)
        push = volume(state.cell) * (-trace - 3.0 * self.conditions.pressure)
        state = super().kick(state)
        return replace(state, p_volume=state.p_volume + 0.5 * self.dt * push)

    def push(self, state: State, time: float, forces: Tensor, stress: Tensor) -> State:
        """As `Integrator.push`; the virial of the forces acts on the barostat as well. The outer
        pressure is in `kick` alone."""
        state = super().push(state, time, forces, stress)
        push = -volume(state.cell) * stress.diagonal(dim1=-2, dim2=-1).sum(-1)
        return replace(state, p_volume=state.p_volume + time * push)

    def drift(self, state: State) -> State:
        r"""Half a step t at constant :math:`\lambda`, everything that it scales included.

        :math:`r \to e^{\lambda t} r + t\,e^{(1-\alpha)\lambda t/2}\,(p/m) \sinh(y)/y` with
        :math:`y = (1+\alpha) \lambda t/2`, and :math:`p \to e^{-\alpha\lambda t} p`.
        """
        t = 0.5 * self.dt
        x = t * state.p_volume / self._mass
        y = 0.5 * (1.0 + self._alpha) * x
        weight = t * torch.exp(0.5 * (1.0 - self._alpha) * x) * sinhc(y)
        spread = self.conditions.spread
        moved = state.momenta / self.conditions.masses * spread(weight)
        return replace(
            state,
            positions=state.positions * spread(torch.exp(x)) + moved,
            momenta=state.momenta * spread(torch.exp(-self._alpha * x)),
            cell=state.cell * torch.exp(x)[:, None, None],
        )

    def middle(self, state: State, noise: Tensor | None) -> State:
        """Half a kick of the cell by the kinetic energy, the chains, the other half."""
        kinetic = self.conditions.kinetic(state.momenta)
        p_volume = state.p_volume + self.dt * self._alpha * kinetic
        held = torch.stack([2.0 * kinetic, p_volume.square() / self._mass], dim=1)
        factor, chain, p_chain = self._chains.step(held, state.chain, state.p_chain, self.dt)
        kinetic = kinetic * factor[:, 0].square()
        return replace(
            state,
            momenta=state.momenta * self.conditions.spread(factor[:, 0]),
            kinetic=kinetic,
            p_volume=p_volume * factor[:, 1] + self.dt * self._alpha * kinetic,
            chain=chain,
            p_chain=p_chain,
        )

    def conserved(self, state: State) -> Tensor:
        """Enthalpy of the atoms and energies of barostat and chains, [n_systems], eV."""
        held = self._chains.energy(state.chain, state.p_chain)
        moving = 0.5 * state.p_volume.square() / self._mass
        work = self.conditions.pressure * volume(state.cell)
        return super().conserved(state) + held + moving + work


def sinhc(x: Tensor) -> Tensor:
    """sinh(x)/x by its series: exact in float64 for the |x| < 0.1 of a step that makes sense."""
    square = x.square()
    series = 1.0 + square / 72.0 * (1.0 + square / 110.0)
    series = 1.0 + square / 42.0 * series
    return 1.0 + square / 6.0 * (1.0 + square / 20.0 * series)
