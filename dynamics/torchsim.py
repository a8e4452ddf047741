"""HybridTorchSimModel: the force field as TorchSim drives it.

TorchSim (torch-sim-atomistic) advances many systems as one state of flat tensors. Release 0.3 is
the last for Python 3.11; later ones say more about a state (boundaries per axis, total charges).
What is read here is what a state has in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.domain_watch import DomainWatch
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.dynamics.torchsim_states import (
    Systems,
    batch_of,
    check_cells,
    rows_of,
    structures_of,
    total_charges,
)
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.passes import Evaluation
from hff_ase.precision import on_usual_device

__all__ = ["HybridTorchSimModel"]

try:
    from torch_sim.models.interface import ModelInterface
    from torch_sim.typing import MemoryScaling
except ImportError as error:
    raise ConfigError(
        f"expected torch-sim-atomistic for replicas: pip install 'hff-ase[torchsim]' ({error})"
    ) from error

DTYPES = (torch.float32, torch.float64)
METRICS = ("n_edges", "n_atoms_x_density")  # of memory, best first; 0.3 knows only the second
FAR = float("inf")


class HybridTorchSimModel(ModelInterface):
    """A hybrid force field behind TorchSim's interface.

    One neighbour list with a skin serves call after call while the states hold the same systems
    and these move little; a state that was reassembled (autobatching) is searched again.

    Args:
        calculator: the force field, of which the device, the precision of the networks and the
            skin hold here too. Its potential is used as it is; neighbours are searched apart.
        dtype: of states and results, torch.float64 or torch.float32. Float32 stores positions to
            1e-6 Angstrom and energies to 1e-7 of their value: too coarse to see energy conserved.

    Attributes:
        cutoff: of the edges that take most of the memory, Angstrom; what TorchSim's autobatchers
            want where they count edges.

    Raises:
        ConfigError: another dtype.
    """

    @on_usual_device
    def __init__(self, calculator: HybridFF, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise ConfigError(f"expected dtype torch.float32 or torch.float64, got {dtype!r}")
        self.info, self.skin = calculator.info, calculator.skin
        self.domain_watch = DomainWatch(self.info.name, self.info.domain)
        self.potential = calculator.potential
        self._device, self._dtype = calculator.device, dtype
        self._compute_forces = self._compute_stress = True
        known = get_args(MemoryScaling)
        self._memory_scales_with = next((m for m in METRICS if m in known), known[0])
        requests = [r for r in self.potential.requests() if 0 < r.cutoff < FAR]
        full = [r.cutoff for r in requests if r.kind == "full"]
        self.cutoff = max(full or [r.cutoff for r in requests], default=0.0)
        self.reset()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
        precision: str = "float32",
        without: Sequence[str] = (),
        skin: float = 1.0,
        kernels: str = "auto",
    ) -> HybridTorchSimModel:
        """A shipped model by name or any .hff file by path.

        Args:
            name_or_path: as `HybridFF.load`.
            device: "cpu" or "cuda".
            dtype: of states and results.
            precision: of the networks, "float32" or "float64" (`HybridFF`'s dtype).
            without, skin, kernels: as `HybridFF`.

        Raises:
            CheckpointError: no such model, or the file is damaged, newer, or fails its own check.
            ConfigError: a setting that makes no sense.
        """
        calculator = HybridFF.load(
            name_or_path,
            device=str(device),
            dtype=precision,
            without=without,
            skin=skin,
            kernels=kernels,
        )
        return cls(calculator, dtype)

    @ModelInterface.compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        """Whether results hold forces."""
        self._compute_forces = bool(value)

    @ModelInterface.compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        """Whether results hold the stress."""
        self._compute_stress = bool(value)

    @property
    def n_searches(self) -> int:
        """How often neighbours were searched since the last `reset`."""
        return self._evaluator.version

    def reset(self) -> None:
        """Forget systems and neighbours (and their memory) of the calls so far."""
        self._systems: Systems | None = None
        self._fractions: Tensor | None = None  # of the cells at the last call, unwrapped
        # Running out of memory must stay torch's own error: autobatchers look for it.
        self._evaluator = Evaluator(self.potential, self.skin, own_memory_errors=False)

    @on_usual_device
    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Evaluate every system of a state in one pass; the state is not changed.

        Args:
            state: a SimState (a dict of its tensors will do): positions [n_atoms, 3], Angstrom;
                cell [n_systems, 3, 3], lattice vectors as columns; system_idx and atomic_numbers
                [n_atoms]; pbc, one bool or one per axis. A system of a periodic state whose cell
                is all zeros is a molecule. Total charges [n_systems], e, are read from
                ``total_charge`` or ``charge`` where the state has one; 0 where not.
            **kwargs: what other models of TorchSim may take; not used.

        Returns:
            energy [n_systems], eV; forces [n_atoms, 3], eV/Angstrom; stress [n_systems, 3, 3],
            eV/Angstrom^3, ASE's sign, zero for molecules; partial_charges [n_atoms], e, where the
            model has them. All detached, in the model's dtype.

        Raises:
            StructureError: a system that cannot be evaluated, with the reason.
            ConfigError: a state on another device or with another dtype.

        Warns:
            OutsideDomainWarning: molecules that the model was not trained on, once for each set.
        """
        if isinstance(state, Mapping):
            state = SimpleNamespace(**{"system_idx": None, "pbc": True, **state})
        batch = self._batch(state)
        try:
            asked = {"positions": self._compute_forces, "cell": self._compute_stress}
            derivatives = [name for name, wanted in asked.items() if wanted]
            result = self._evaluator.evaluate(batch, derivatives=derivatives)
        except BaseException:
            self.reset()  # half of a list must not serve the next state
            raise
        return self._results(result)

    def _results(self, result: Evaluation) -> dict[str, Tensor]:
        found = {
            "energy": result.energy,
            "forces": result.forces,
            "stress": result.stress,
            "partial_charges": result.fields.get("charges"),
        }
        return {k: v.detach().to(self._dtype) for k, v in found.items() if v is not None}

    def _batch(self, state: Any) -> AtomsBatch:
        positions = state.positions.detach()
        if positions.device.type != self._device.type or positions.dtype != self._dtype:
            raise ConfigError(
                f"expected a state on {self._device} in {self._dtype}, got one on "
                f"{positions.device} in {positions.dtype}"
            )
        if state.system_idx is None:
            state.system_idx = torch.zeros_like(state.atomic_numbers, dtype=torch.int64)
        pbc = torch.as_tensor(state.pbc, dtype=torch.bool, device=positions.device)
        charge = total_charges(state)
        if self._systems is None or not self._systems.are(state, pbc, charge):
            self._systems = self._meet(state, pbc, charge)
            self._fractions = None
        known = self._systems.batch
        cell = rows_of(state.cell, known.periodic)
        return known.moved(self._unwrapped(positions.double(), cell, known), cell)

    def _unwrapped(self, positions: Tensor, cell: Tensor, systems: AtomsBatch) -> Tensor:
        """Positions [n_atoms, 3] at the images nearest to those of the last call.

        Integrators fold atoms back into the cell. In a large batch some atom crosses a face at
        every step: taken for a move, that would make every step search for neighbours.
        """
        if not systems.any_periodic:
            return positions.clone()
        inverse, _ = torch.linalg.inv_ex(cell)  # a flat cell is found elsewhere, without waiting
        fractions = (positions[:, None] @ inverse[systems.system])[:, 0]
        last = fractions if self._fractions is None else self._fractions
        crossed = (fractions - last).round() * systems.periodic[systems.system, None]
        self._fractions = fractions - crossed
        return positions - (crossed[:, None] @ cell[systems.system])[:, 0]

    def _meet(self, state: Any, pbc: Tensor, charge: Tensor | None) -> Systems:
        """Check new systems and make their batch."""
        batch = batch_of(state, pbc, charge)
        self.potential.check_elements(batch)
        check_cells(batch)
        self.domain_watch.look(structures_of(batch))
        return Systems.of(state, pbc, charge, batch)
