r"""A liquid that a cosine acceleration shears, for its viscosity.

.. math:: \ddot x_i = F_{x,i}/m_i + a \cos k z_i, \qquad k = 2 \pi / L_z

In the steady state :math:`v_x(z) = v \cos k z` with :math:`\rho a = \eta k^2 v` (Hess, J. Chem.
Phys. 116, 209 (2002)). The amplitude of the flow is its projection with weights of mass,

.. math:: v = \sum_i p_{x,i} c_i / \sum_i m_i c_i^2, \qquad
    c_i = \cos k z_i - \sum_j m_j \cos k z_j / \sum_j m_j

so that neither the acceleration nor the flow moves the centre of mass, and what is left of the
momenta is orthogonal to the flow: the chain holds the temperature of this rest, and takes from it
the heat that the shear brings in.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from hff_ase.dynamics.engine.torch.integrators.nose_hoover import NoseHoover
from hff_ase.dynamics.engine.torch.state import State


class Sheared(NoseHoover):
    """Nose-Hoover dynamics of the momenta beside a flow, which a cosine acceleration drives.

    Cells must be right-angled boxes. The reported kinetic energy is without the flow, and its
    3N - 4 momenta have the temperature that is asked for. ``heat`` is the work of the acceleration.
    """

    has_flow = True

    @property
    def n_held(self) -> Tensor:
        """One less: the flow."""
        return super().n_held - 1.0

    def kick(self, state: State) -> State:
        """Half a time step of the forces and of the acceleration."""
        state = super().kick(state)
        masses, conditions = self.conditions.masses[:, 0], self.conditions
        kick = 0.5 * self.dt * conditions.shear * masses * self._cosine(state)
        before = state.momenta[:, 0]
        work = conditions.sum((before + 0.5 * kick) * kick / masses)
        return replace(state, momenta=_along_x(state.momenta, kick), heat=state.heat + work)

    def middle(self, state: State, noise: Tensor | None) -> State:
        """A time step of the chain, which scales all momenta beside the flow by one factor."""
        conditions, cosine = self.conditions, self._cosine(state)
        amplitude = conditions.spread(self._amplitude(state, cosine))[:, 0]
        flow = conditions.masses[:, 0] * cosine * amplitude
        rest = super().middle(replace(state, momenta=_along_x(state.momenta, -flow)), noise)
        return replace(rest, momenta=_along_x(rest.momenta, flow))

    def flow(self, state: State) -> Tensor:
        """Amplitude v of the flow, [n_systems], ASE velocity."""
        return self._amplitude(state, self._cosine(state))

    def conserved(self, state: State) -> Tensor:
        """Energy of the atoms and of the chain less the work of the acceleration, eV."""
        return super().conserved(state) - state.heat

    def _amplitude(self, state: State, cosine: Tensor) -> Tensor:
        """v of the module, [n_systems], for c of every atom."""
        moving = self.conditions.sum(state.momenta[:, 0] * cosine)
        return moving / self.conditions.sum(self.conditions.masses[:, 0] * cosine.square())

    def _cosine(self, state: State) -> Tensor:
        """c of every atom, [n_atoms]."""
        conditions, masses = self.conditions, self.conditions.masses[:, 0]
        height = conditions.spread(state.cell[:, 2, 2])[:, 0]
        cosine = torch.cos(2.0 * math.pi * state.positions[:, 2] / height)
        mean = conditions.sum(masses * cosine) / conditions.sum(masses)
        return cosine - conditions.spread(mean)[:, 0]


def _along_x(momenta: Tensor, change: Tensor) -> Tensor:
    """Momenta [n_atoms, 3] with ``change`` [n_atoms] added to their x components."""
    return torch.cat([momenta[:, :1] + change[:, None], momenta[:, 1:]], dim=1)
