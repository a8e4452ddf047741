"""Nose-Hoover chains, and the canonical ensemble by one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hff_ase.dynamics.engine.torch.integrators.velocity_verlet import Integrator
from hff_ase.dynamics.engine.torch.state import Conditions, State

LENGTH = 3


@dataclass(frozen=True)
class Chains:
    """Nose-Hoover chains, several per system, each coupled to one kinetic energy.

    Attributes:
        target: [n_systems, n_chains], number of momenta times kT, eV.
        kt: [n_systems, 1], eV.
        mass: [n_systems, n_chains, LENGTH], eV * ASE time^2.
    """

    target: Tensor
    kt: Tensor
    mass: Tensor

    @classmethod
    def make(cls, numbers: Tensor, kt: Tensor, damping: Tensor) -> Chains:
        """Chains with the masses of Martyna, Klein and Tuckerman (J. Chem. Phys. 97, 2635 (1992)).

        Args:
            numbers: momenta that each chain holds, [n_systems, n_chains].
            kt: [n_systems], eV.
            damping: time constants, [n_chains].
        """
        target = numbers * kt[:, None]
        unit = (kt[:, None] * damping**2)[..., None]
        mass = torch.cat([unit * numbers[..., None], unit, unit], dim=-1)
        return cls(target, kt[:, None], mass)

    def step(
        self, twice_kinetic: Tensor, chain: Tensor, p_chain: Tensor, dt: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Move the chains by ``dt``.

        From the last link to the first, the momenta that are held, and back (ibid., section II).

        Args:
            twice_kinetic: sum of p^2/m that each chain holds, [n_systems, n_chains], eV.
            chain, p_chain: [n_systems, n_chains, LENGTH].

        Returns:
            The factor for the momenta that are held [n_systems, n_chains]; the new variables.
        """
        links = list(p_chain.unbind(-1))
        for link in reversed(range(LENGTH)):
            links[link] = self._kick_link(link, links, twice_kinetic, 0.5 * dt)
        chain = chain + dt * torch.stack(links, dim=-1) / self.mass
        factor = torch.exp(-dt * links[0] / self.mass[..., 0])
        twice_kinetic = twice_kinetic * factor.square()
        for link in range(LENGTH):
            links[link] = self._kick_link(link, links, twice_kinetic, 0.5 * dt)
        return factor, chain, torch.stack(links, dim=-1)

    def _kick_link(
        self, link: int, links: list[Tensor], twice_kinetic: Tensor, dt: float
    ) -> Tensor:
        if link == 0:
            force = twice_kinetic - self.target
        else:
            force = links[link - 1].square() / self.mass[..., link - 1] - self.kt
        if link == LENGTH - 1:
            return links[link] + dt * force
        drag = torch.exp(-0.5 * dt * links[link + 1] / self.mass[..., link + 1])
        return (links[link] * drag + dt * force) * drag

    def energy(self, chain: Tensor, p_chain: Tensor) -> Tensor:
        """Energy of the chains' variables in the conserved quantity, [n_systems], eV.

        Args:
            chain, p_chain: [n_systems, n_chains, length].
        """
        moving = 0.5 * (p_chain.square() / self.mass).sum((-1, -2))
        first = (self.target * chain[..., 0]).sum(-1)
        return moving + first + (self.kt * chain[..., 1:].sum(-1)).sum(-1)


class NoseHoover(Integrator):
    """Canonical ensemble; the middle is a step of one chain for all momenta of a system."""

    thermostatted = True

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        damping = conditions.masses.new_tensor([conditions.tdamp])
        self._chains = Chains.make(self.n_held[:, None], conditions.kt, damping)

    @property
    def n_held(self) -> Tensor:
        """Number of momenta that the chain holds at the temperature, [n_systems]."""
        return self.conditions.thermal

    def start(self, state: State) -> State:
        """The state at the start of a stage, the chain at rest."""
        rest = torch.zeros_like(self._chains.mass)
        return replace(super().start(state), chain=rest, p_chain=rest.clone())

    def middle(self, state: State, noise: Tensor | None) -> State:
        """A time step of the chain, which scales all momenta of a system by one factor."""
        kinetic = self.conditions.kinetic(state.momenta)
        factor, chain, p_chain = self._chains.step(
            2.0 * kinetic[:, None], state.chain, state.p_chain, self.dt
        )
        return replace(
            state,
            momenta=state.momenta * self.conditions.spread(factor[:, 0]),
            kinetic=kinetic * factor[:, 0].square(),
            chain=chain,
            p_chain=p_chain,
        )

    def conserved(self, state: State) -> Tensor:
        """Energy of the atoms and of the chain, [n_systems], eV."""
        return super().conserved(state) + self._chains.energy(state.chain, state.p_chain)
