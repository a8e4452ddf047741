r"""Constant pressure by stochastic cell rescaling, a first-order barostat, with Langevin dynamics.

Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020). The volume has no inertia; in the variable
:math:`\lambda = \sqrt V` its noise is additive (ibid., section II C):

.. math:: d\lambda = \frac{\beta\lambda}{2\tau} \left(P - P_0 + \frac{k_B T}{2V}\right) dt
    + \sqrt{\frac{k_B T\beta}{2\tau}}\, dW

where P holds the kinetic energy as it is, positions scale with the cell and momenta against it.
:math:`\tau` is how long a liquid of the compressibility :math:`\beta` takes to its volume; neither
enters the distribution.

How it is integrated: the equation is the limit of strong friction of a piston of coordinate
:math:`\lambda` in the potential :math:`P_0\lambda^2 - k_B T\ln\lambda`. That piston is moved here
as the atoms are (see `integrators`): kicked by forces and virial, and in the middle

    cell dt/2 - kick by K dt/2 - thermostats of piston and atoms - kick by K dt/2 - cell dt/2

with a thermostat that replaces the piston's momentum altogether. Its mass is then no parameter but
:math:`2 \tau dt/\beta`, and :math:`\lambda` makes the steps of Leimkuhler and Matthews (Appl. Math.
Res. Express 2013, 34, eq. 1.7): noise of two steps in each, an error in the distribution of second
order in dt and none in a harmonic one. Every part is a flow that is solved exactly and keeps the
measure of phase space; the order is symmetric, so that the whole is reversible in the sense of
detailed balance. The heat of both thermostats is counted, and energy less heat conserved.

As `MTK`, with 3N - 3 thermal momenta, it samples :math:`V^{-1} e^{-P_0 V/k_B T} Z(V)`: the mean of
the reported pressure is the one that was asked for.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from ase import units
from torch import Tensor

from hff_ase.dynamics.engine.torch.integrators.langevin import Langevin
from hff_ase.dynamics.engine.torch.state import Conditions, State, volume
from hff_ase.errors import ConfigError

COMPRESSIBILITY = 1.0 / units.GPa  # Angstrom^3/eV; organic liquids have 0.5 to 1.2 per GPa


class CellRescaling(Langevin):
    """Isothermal-isobaric ensemble by a first-order barostat: the volume does not oscillate.

    The piston's noise is the fourth random number of the first atom of its system. The cell scales
    bonds as well, and their pressure answers with some 100 GPa at once: the piston's step is stable
    for ``pdamp`` above 100 time steps or so. There are no inner steps: a push per outer step would
    move the cell in one inner step only, and the work of the others be lost to the balance.

    Raises:
        ConfigError: a system without a periodic cell.
    """

    moves_cell = True
    noise_width = 4

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        if not conditions.batch.all_periodic:
            raise ConfigError("expected a periodic box for npt-scr, got a structure without one")
        self._mass = 2.0 * conditions.pdamp * self.dt / COMPRESSIBILITY
        self._push = torch.sqrt(self._mass * conditions.kt)  # [n_systems], of the noise
        counts = conditions.batch.counts
        self._first_atom = torch.cumsum(counts, 0) - counts

    def kick(self, state: State) -> State:
        """Half a step of forces, and of virial, pressure and measure on the piston."""
        root = volume(state.cell).sqrt()
        trace = state.stress.diagonal(dim1=-2, dim2=-1).sum(-1)
        push = 2.0 * root * (-trace / 3.0 - self.conditions.pressure) + self.conditions.kt / root
        state = super().kick(state)
        return replace(state, p_volume=state.p_volume + 0.5 * self.dt * push)

    def middle(self, state: State, noise: Tensor | None) -> State:
        """The cell half a step, both thermostats between two kicks, the cell another half."""
        if noise is None:
            raise ValueError("expected noise for cell rescaling, got none")
        state = self._push_by_motion(self._move_cell(state))
        before = 0.5 * state.p_volume.square() / self._mass
        p_volume = self._push * noise[self._first_atom, 3]
        state = super().middle(state, noise[:, :3])
        heat = state.heat + 0.5 * p_volume.square() / self._mass - before
        state = self._push_by_motion(replace(state, p_volume=p_volume, heat=heat))
        return self._move_cell(state)

    def _push_by_motion(self, state: State) -> State:
        r"""Half a step of :math:`-\partial K/\partial\lambda = 4K/(3\lambda)`."""
        kinetic = self.conditions.kinetic(state.momenta)
        push = 4.0 / 3.0 * kinetic / volume(state.cell).sqrt()
        return replace(state, p_volume=state.p_volume + 0.5 * self.dt * push)

    def _move_cell(self, state: State) -> State:
        """Half a step of the piston: cell and positions scale with it, momenta against it."""
        root = volume(state.cell).sqrt()
        scale = torch.pow(1.0 + 0.5 * self.dt * state.p_volume / (self._mass * root), 2.0 / 3.0)
        spread = self.conditions.spread(scale)
        return replace(
            state,
            positions=state.positions * spread,
            momenta=state.momenta / spread,
            cell=state.cell * scale[:, None, None],
        )

    def conserved(self, state: State) -> Tensor:
        """Enthalpy and the piston's energy, less heat from both thermostats, [n_systems], eV."""
        space = volume(state.cell)
        moving = 0.5 * state.p_volume.square() / self._mass
        free = self.conditions.pressure * space - 0.5 * self.conditions.kt * torch.log(space)
        return super().conserved(state) + moving + free
