"""One structure moved by our own engine, as a run asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms

from hff_ase.calculators.results import split_results
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.interface import Arrays, Sample
from hff_ase.dynamics.engine.momenta import temperature
from hff_ase.dynamics.engine.torch.batch_engine import BatchEngine
from hff_ase.dynamics.engine.torch.record import COLUMNS, FLOW, TENSOR


class TorchEngine(BatchEngine):
    """See `Engine`; ``atoms`` are brought up to date when they are asked for.

    Args:
        atoms: with momenta that add up to zero.
        config: of the run.
        calc: a HybridFF, for its potential, device and skin.
        surroundings: as `get_surroundings` gave them; empty to search neighbours at the atoms.
        block: steps between two looks from the host; None to choose by the device.
    """

    def __init__(
        self,
        atoms: Atoms,
        config: MDConfig,
        calc: Any,
        surroundings: Arrays,
        block: int | None = None,
    ) -> None:
        self._atoms, self._stale = atoms, False
        super().__init__([atoms], [config], calc, surroundings, block)

    @property
    def atoms(self) -> Atoms:
        """The current structure."""
        if self._stale:
            state = self.loop.state
            self._atoms.positions = state.positions.cpu().numpy()
            self._atoms.set_momenta(state.momenta.cpu().numpy())
            if self.loop.integrator.moves_cell:
                self._atoms.set_cell(state.cell[0].cpu().numpy(), scale_atoms=False)
            self._stale = False
        return self._atoms

    @property
    def results(self) -> Mapping[str, Any]:
        """ASE's results, as HybridFF gives them."""
        loop = self.loop
        return split_results(loop.evaluation(), self._conditions.moved(loop.state))[0]

    def begin(self, ensemble: str, step: int, state: Arrays) -> None:
        """Make a new integrator, or one with the variables of `get_state`."""
        _ = self.atoms if self._stale else None  # with the cell of the stage before
        super().begin(ensemble, step, state)

    def advance(self, n_steps: int) -> list[Sample]:
        """A block of steps."""
        self._stale = True
        rows = self.loop.advance(n_steps)
        return [self._sample(row[0].tolist()) for row in rows]

    def sample(self) -> Sample:
        """The columns of the present atoms."""
        return self._sample(self.loop.here()[0].tolist())

    def _sample(self, values: list[float]) -> Sample:
        periodic = self._conditions.batch.all_periodic
        return sample_of(self.loop.columns, values, self._atoms, periodic)


def sample_of(
    columns: Sequence[str], values: Sequence[float], atoms: Atoms, periodic: bool
) -> Sample:
    """What is known of one system's step.

    Args:
        columns: names of what the loop gives.
        values: of one system.
        atoms: for the number of atoms.
        periodic: whether the volume means anything.
    """
    n_known = len(COLUMNS) + (len(TENSOR) if TENSOR[0] in columns else 0) + (FLOW in columns)
    known = dict(zip(columns[:n_known], values, strict=False))
    return Sample(
        potential=known["potential"],
        kinetic=known["kinetic"],
        conserved=known["conserved"],
        temperature=temperature(known["kinetic"], atoms),
        pressure=known["pressure"],
        tensor=tuple(known[name] for name in TENSOR if name in known),
        volume=known["volume"] if periodic else float("nan"),
        displacement=known["displacement"],
        farthest=int(known["farthest"]),
        harmless=bool(known["harmless"]),
        flow=known.get(FLOW, float("nan")),
        terms=dict(zip(columns[n_known:], values[n_known:], strict=True)),
    )
