"""HybridFF: a hybrid force field as an ASE calculator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.arguments import device_of, precision_of, refuse_settings, without_terms
from hff_ase.calculators.domain_watch import DomainWatch
from hff_ase.calculators.results import split_results
from hff_ase.checkpoint import ModelInfo, load_model, save_model
from hff_ase.errors import ConfigError, StructureError
from hff_ase.evaluator import Evaluator
from hff_ase.importers.bamboo import from_bamboo, info_of
from hff_ase.models import model_path
from hff_ase.potential import HybridPotential
from hff_ase.precision import on_usual_device
from hff_ase.structures import total_charge
from hff_ase.terms.term import Term

__all__ = ["HybridFF"]

OF_CHARGES = ("charges", "dipole")  # properties of models with a term that gives charges


class HybridFF(Calculator):
    """A hybrid force field for ASE, for one structure at a time or for many in one pass.

    Results are ASE's: ``energy``, ``free_energy`` (eV), ``energies`` (per atom), ``forces``
    (eV/Angstrom), ``stress`` (Voigt xx yy zz yz xz xy, eV/Angstrom^3; periodic structures),
    ``charges`` (e) and ``dipole`` (e Angstrom, of the charges at the positions as given and of
    atoms that have one themselves, induced or permanent). The total charge is
    ``atoms.info["charge"]``. Threads may share a calculator: they take turns.

    Args:
        potential: the terms; used as it is, so that its device and precision are set in place.
        info: what the model is; kept when it is saved.
        device: "cpu" or "cuda".
        dtype: precision of the networks, "float32" or "float64"; sums and energies are float64.
        without: names of terms to leave out.
        skin: how far atoms may move, together, before neighbours are searched again, Angstrom.
        kernels: "auto" runs fused kernels where there are some for the device (float32 only),
            "reference" the plain torch operations: slower, the same numbers to 1e-5 in forces.

    Attributes:
        energy_terms: eV per term, of the last structure.

    Raises:
        ConfigError: an unknown term, dtype, device or choice of kernels, a term removed that
            another one needs, or an invalid skin.
    """

    implemented_properties: list[str] = [  # noqa: RUF012
        "energy", "free_energy", "energies", "forces", "stress", "charges", "dipole",
    ]  # fmt: skip
    ignored_changes: set[str] = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    _evaluator: Evaluator

    @on_usual_device
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
        self.energy_terms: dict[str, float] = {}
        self._charge = 0.0  # of the last structure
        self._evaluator = Evaluator(self.potential, skin)
        self._lock = RLock()

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
        further: Mapping[str, Term] | None = None,
    ) -> HybridFF:
        """A shipped model by name or an .hff file by path.

        Args:
            name_or_path: one of `hff_ase.available_models`, or a file.
            device, dtype, without, skin, kernels: as the constructor.
            further: terms to add behind those of the model, by name, such as a `UniformField`.

        Raises:
            CheckpointError: no such model, or the file is damaged, newer, or fails its own check.
            ConfigError: as the constructor, or terms that need what the model does not give.
        """
        device_of(device)  # what is wrong there is reported before the file is read
        potential, info = load_model(model_path(name_or_path), precision_of(dtype))
        if further:
            potential = potential.with_terms({**dict(potential.named_terms()), **further})
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
    @on_usual_device
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
            path: the file.
            coulomb_method, tolerance: how long-range electrostatics is summed in boxes.
            device, dtype, without, skin, kernels: as the constructor.

        Raises:
            CheckpointError: the file cannot be read or lacks arrays.
        """
        potential = from_bamboo(
            path,
            charge_response=charge_response,
            coulomb_method=coulomb_method,
            tolerance=tolerance,
        ).requires_grad_(False)
        info = info_of(Path(path).stem, potential, charge_response)
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

        Args:
            path: where to; an old file is replaced whole.
            references: structures that are evaluated again whenever the file is loaded.

        Raises:
            CheckpointError: it cannot be written.
        """
        save_model(path, self.potential, self.info, references)

    @on_usual_device
    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Iterable[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate everything for one structure (called by ASE).

        Raises:
            StructureError: the structure cannot be evaluated, with the reason.
        """
        with self._lock:
            super().calculate(atoms, properties, system_changes)
            if self.atoms is None:
                raise StructureError("expected a structure to evaluate, got none")
            before = self._evaluator.version
            try:
                batch = AtomsBatch.from_atoms(self.atoms, self.device)
                result = self._evaluator.evaluate(batch)
                if self._evaluator.version != before:
                    self.domain_watch.look([self.atoms])
            except BaseException:
                self.reset()
                self._evaluator.forget()
                raise
            self._charge = float(batch.charge[0])
            (results,) = split_results(result, batch)
            self.energy_terms = results.pop("energy_terms")
            self.results = results

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """One result, computed if it is not known yet (called by ASE).

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
        with self._lock:
            return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, the total charge included."""
        changes = list(super().check_state(atoms, tol=tol))
        # ASE's copy of the atoms may share what their info holds
        if self.atoms is not None and self._charge != total_charge(atoms):
            changes.append("charge")
        return changes

    @on_usual_device
    def evaluate(self, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
        """Results of many structures in one batched pass, in order.

        Returns:
            A dict of ASE's properties for each, and ``energy_terms`` beside them;
            `results_to_atoms` makes structures of them that ASE writes.

        Raises:
            StructureError: one of them cannot be evaluated; the message names it.
        """
        batch = AtomsBatch.from_atoms(structures, self.device)
        with self._lock:
            return self._evaluate(batch, structures)

    def _evaluate(self, batch: AtomsBatch, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
        fresh = Evaluator(self.potential, trajectory=False)
        result = fresh.evaluate(batch)
        self.domain_watch.look(structures)
        return split_results(result, batch)

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Nothing can be changed afterwards; without arguments ASE's own call.

        Raises:
            ConfigError: any argument: ASE would keep it, and nothing would come of it.
        """
        refuse_settings(kwargs)
        changed: dict[str, Any] = super().set()
        return changed

    def get_state(self) -> dict[str, np.ndarray]:
        """What a restart needs to continue bit for bit: where the neighbour list was built."""
        with self._lock:
            return self._evaluator.get_state()

    @on_usual_device
    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Rebuild the neighbour list where `get_state` found it.

        Raises:
            ConfigError: not what `get_state` gave.
        """
        with self._lock:
            self._evaluator.set_state(state)
            self.reset()

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: a neighbour list belongs to the terms that it was made for."""
        state = self.__dict__.copy()
        del state["_evaluator"], state["_lock"]
        return state | {"_evaluated_at": self.get_state()}

    @on_usual_device
    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy continues with its own neighbour list, bit for bit as the original."""
        self.__dict__.update({k: v for k, v in state.items() if k != "_evaluated_at"})
        self._lock = RLock()
        self._evaluator = Evaluator(self.potential, self.skin)
        self._evaluator.set_state(state["_evaluated_at"])
