"""HybridFF: a hybrid force field as an ASE calculator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from hff_ase.batch import AtomsBatch, total_charge
from hff_ase.calculators.arguments import device_of, precision_of, without_terms
from hff_ase.calculators.domain_watch import DomainWatch
from hff_ase.calculators.results import (
    check_finite,
    check_overlap,
    refusing_what_is_too_large,
    split_results,
)
from hff_ase.checkpoint import ModelInfo, load_model, save_model
from hff_ase.errors import ConfigError, StructureError
from hff_ase.importers.bamboo import from_bamboo, published_domain
from hff_ase.longrange.qeq.history import history_state, restore_history
from hff_ase.models import model_path
from hff_ase.neighbors import NeighborList
from hff_ase.potential import HybridPotential

OF_CHARGES = ("charges", "dipole")  # properties of models with a term that gives charges
STATE = ("positions", "numbers", "cell", "periodic")  # of where neighbours were last searched


class HybridFF(Calculator):
    """A hybrid force field for ASE, for one structure at a time or for many in one pass.

    Results are ASE's: ``energy``, ``free_energy`` (eV), ``energies`` (per atom), ``forces``
    (eV/Angstrom), ``stress`` (Voigt xx yy zz yz xz xy, eV/Angstrom^3; periodic structures),
    ``charges`` (e) and ``dipole`` (e Angstrom, of the positions as given), and ``energy_terms``,
    a dict of eV per term. The total charge is ``atoms.info["charge"]``.

    Args:
        potential: the terms; used as it is, so that its device and precision are set in place.
        info: what the model is; kept when it is saved.
        device: "cpu" or "cuda".
        dtype: precision of the networks, "float32" or "float64"; sums and energies are float64.
        without: names of terms to leave out.
        skin: how far atoms may move, together, before neighbours are searched again, Angstrom.
        kernels: "auto" runs fused kernels where there are some for the device (float32 only),
            "reference" the plain torch operations: slower, the same numbers to 1e-5 in forces.

    Raises:
        ConfigError: an unknown term, dtype, device or choice of kernels, a term removed that
            another one needs, or a skin that is no length.
    """

    implemented_properties: list[str] = [  # noqa: RUF012
        "energy", "free_energy", "energies", "forces", "stress", "charges", "dipole",
    ]  # fmt: skip
    ignored_changes: set[str] = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    _neighbors: NeighborList
    _checked_build: int  # the search whose closest pair was looked at

    def __init__(
        self,
        potential: HybridPotential,
        info: ModelInfo | None = None,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        without: Sequence[str] = (),
        skin: float = 1.0,
        kernels: str = "auto",
    ) -> None:
        super().__init__()
        self.info = info or ModelInfo("unnamed")
        self.device = device_of(device)
        precision = precision_of(dtype)
        if not (isinstance(skin, (int, float)) and 0 <= skin < float("inf")):
            raise ConfigError(f"expected a skin of at least 0 Angstrom, got {skin!r}")
        if without:
            potential = without_terms(potential, without, self.info)
        self.dtype, self.skin = dtype, skin
        self.potential = potential.set_dtype(precision).use_kernels(kernels).to(self.device)
        if not any("charges" in term.gives for _, term in potential.named_terms()):
            self.implemented_properties = [
                name for name in self.implemented_properties if name not in OF_CHARGES
            ]
        self.domain_watch = DomainWatch(self.info.name, self.info.domain)
        self._forget_neighbors()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        without: Sequence[str] = (),
        skin: float = 1.0,
        kernels: str = "auto",
    ) -> HybridFF:
        """A shipped model by name (see `hff_ase.available_models`) or any .hff file by path.

        Raises:
            CheckpointError: no such model, or the file is damaged, newer, or fails its own check.
            ConfigError: as the constructor.
        """
        device_of(device)  # what is wrong there is said before the file is read
        potential, info = load_model(model_path(name_or_path), precision_of(dtype))
        return cls(
            potential,
            info,
            device=device,
            dtype=dtype,
            without=without,
            skin=skin,
            kernels=kernels,
        )

    @classmethod
    def from_bamboo(
        cls,
        path: str | Path,
        *,
        charge_response: bool = True,
        coulomb_method: str = "pme",
        tolerance: float = 1e-6,
        device: str = "cpu",
        dtype: str = "float32",
        without: Sequence[str] = (),
        skin: float = 1.0,
        kernels: str = "auto",
    ) -> HybridFF:
        """A published BAMBOO checkpoint: TorchScript .pt, or .npz of its arrays.

        Args:
            charge_response: True makes forces and stress the exact gradient of the energy; False
                takes them at fixed charges, as published.
            coulomb_method, tolerance: how long-range electrostatics is summed in boxes.

        Raises:
            CheckpointError: the file cannot be read or lacks arrays.
        """
        potential = from_bamboo(
            path,
            charge_response=charge_response,
            coulomb_method=coulomb_method,
            tolerance=tolerance,
        ).requires_grad_(False)
        info = ModelInfo(
            name=Path(path).stem,
            description="imported BAMBOO checkpoint"
            + ("" if charge_response else ", forces at fixed charges as published"),
            provenance="Gong et al., Nat. Mach. Intell. 2025; the checkpoint's own licence holds",
            trained_with=tuple(name for name, _ in potential.named_terms()),
            domain=published_domain(),
        )
        return cls(
            potential,
            info,
            device=device,
            dtype=dtype,
            without=without,
            skin=skin,
            kernels=kernels,
        )

    def save(self, path: str | Path, references: Sequence[Atoms]) -> None:
        """Write the model as an .hff file with the results of some small reference structures.

        Raises:
            CheckpointError: it cannot be written.
        """
        save_model(path, self.potential, self.info, references)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Iterable[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate everything for one structure (ASE calls this).

        Raises:
            StructureError: the structure cannot be evaluated, with the reason.
        """
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise StructureError("expected a structure to evaluate, got none")
        try:
            batch = AtomsBatch.from_atoms(self.atoms, self.device)
            self.potential.check_elements(batch)
            with refusing_what_is_too_large(batch):
                result = self.potential(batch, self._neighbors)
            if self._neighbors.n_builds != self._checked_build:
                check_overlap(self._neighbors, batch)
                self.domain_watch.look([self.atoms])
                self._checked_build = self._neighbors.n_builds
            check_finite(result, batch)
        except BaseException:
            # Half of a neighbour list, or of the results, must not serve the next structure.
            self.reset()
            self._forget_neighbors()
            raise
        self.results = split_results(result, batch)[0]

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """One result, computed where it is not known yet (ASE calls this).

        Raises:
            PropertyNotImplementedError: the stress of a molecule, or charges of a model without.
        """
        structure = self.atoms if atoms is None else atoms
        if allow_calculation and structure is not None:
            if name == "stress" and not structure.pbc.any():
                raise PropertyNotImplementedError(
                    "expected a periodic structure for a stress, got a molecule without a cell"
                )
            if name in OF_CHARGES and name not in self.implemented_properties:
                terms = [term for term, _ in self.potential.named_terms()]
                raise PropertyNotImplementedError(
                    f"expected a term that gives charges for {name}, got {terms}"
                )
        return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, the total charge included."""
        changes = list(super().check_state(atoms, tol=tol))
        if self.atoms is not None and total_charge(self.atoms) != total_charge(atoms):
            changes.append("charge")
        return changes

    def evaluate(self, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
        """Results of many structures in one batched pass, in order.

        Raises:
            StructureError: one of them cannot be evaluated; the message names it.
        """
        batch = AtomsBatch.from_atoms(structures, self.device)
        self.potential.check_elements(batch)
        neighbors = self.potential.neighbor_list()
        with refusing_what_is_too_large(batch):
            result = self.potential(batch, neighbors)
        check_overlap(neighbors, batch)
        self.domain_watch.look(structures)
        check_finite(result, batch)
        return split_results(result, batch)

    def get_state(self) -> dict[str, np.ndarray]:
        """What a restart needs to go on bit for bit: where the neighbour list was built."""
        reference = self._neighbors.reference
        if reference is None:
            return {}
        names = STATE if reference.order is None else (*STATE, "order")
        state = {name: getattr(reference, name).cpu().numpy().copy() for name in names}
        return state | history_state(self._neighbors)

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Rebuild the neighbour list where `get_state` found it.

        Raises:
            ConfigError: not what `get_state` gave.
        """
        missing = [name for name in STATE if state and name not in state]
        if missing:
            raise ConfigError(f"expected a state with {', '.join(STATE)}, got none of {missing[0]}")
        self.reset()
        self._rebuild_neighbors(state)

    def _forget_neighbors(self) -> None:
        self._neighbors = self.potential.neighbor_list(self.skin, sort=True)
        self._neighbors.memory = {}  # what ASE asks for is one trajectory, step after step
        self._checked_build = 0

    def _rebuild_neighbors(self, state: Mapping[str, np.ndarray]) -> None:
        self._forget_neighbors()
        if state:
            names = (*STATE, "order") if "order" in state else STATE
            tensors = {name: torch.tensor(state[name], device=self.device) for name in names}
            system = torch.zeros_like(tensors["numbers"])
            charge = torch.zeros(1, dtype=torch.float64, device=self.device)
            self._neighbors.build(AtomsBatch(**tensors, system=system, charge=charge))
            restore_history(self._neighbors, state)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: a neighbour list belongs to the terms that it was made for."""
        state = self.__dict__.copy()
        del state["_neighbors"], state["_checked_build"]
        state["_neighbors_built_at"] = self.get_state()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy goes on with its own neighbour list, bit for bit as the original."""
        built_at = state["_neighbors_built_at"]
        self.__dict__.update({k: v for k, v in state.items() if k != "_neighbors_built_at"})
        self._rebuild_neighbors(built_at)
