""".hff files as models: weights, configuration, provenance and reference results; never code.

Loading a file (`hff_ase.model_file`) builds the terms by their registered names and recomputes the
reference results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from hff_ase._version import __version__
from hff_ase.arrays import ALWAYS
from hff_ase.batch import AtomsBatch
from hff_ase.domain import Domain
from hff_ase.domain_json import domain_to_dict
from hff_ase.errors import CheckpointError, in_one_line
from hff_ase.model_file import FORMAT_VERSION, domain_in, read_file, write_file
from hff_ase.potential import HybridPotential
from hff_ase.precision import on_usual_device
from hff_ase.terms import TERMS

__all__ = ["ModelInfo", "load_model", "save_model"]

# Agreement asked of the reference results: float32 networks on another CPU or GPU.
ENERGY_TOLERANCE = 1e-4  # eV per atom
FORCE_TOLERANCE = 1e-2  # eV/Angstrom


@dataclass(frozen=True)
class ModelInfo:
    """What a model is and where it comes from.

    Attributes:
        name, description, licence, provenance: free text.
        trained_with: the terms that the weights were fitted together with.
        details: anything else that is JSON-able (training settings, errors ...).
        domain: what it was trained on and may be used for; None if not known.
    """

    name: str
    description: str = ""
    licence: str = ""
    provenance: str = ""
    trained_with: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    domain: Domain | None = None


@on_usual_device
def save_model(
    path: str | Path,
    potential: HybridPotential,
    info: ModelInfo,
    references: Sequence[Atoms],
) -> None:
    """Write an .hff file, whole or not at all.

    Args:
        path: where to.
        potential: what is saved; its weights as they are.
        info: name, licence, provenance and domain.
        references: small structures whose results are stored and checked whenever it is loaded.

    Raises:
        CheckpointError: the file cannot be written, or there is no reference structure.
    """
    if not references:
        raise CheckpointError("expected at least one reference structure to save, got none")
    tensors = {
        f"weights.{name}": value.detach().cpu().contiguous()
        for name, value in potential.state_dict().items()
    }
    for index, atoms in enumerate(references):
        for name, array in _reference_arrays(potential, atoms).items():
            tensors[f"reference.{index}.{name}"] = torch.as_tensor(array)
    description = {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "units": {"energy": "eV", "length": "Angstrom", "charge": "e"},
        "elements": None if potential.elements is None else list(potential.elements),
        "terms": [
            {"name": name, "kind": term.kind, "config": term.config()}
            for name, term in potential.named_terms()
        ],
        "scales": dict(potential.scales),
        "info": _without_domain(info),
        "domain": None if info.domain is None else domain_to_dict(info.domain),
        "n_references": len(references),
    }
    write_file(Path(path), description, tensors)


@on_usual_device
def load_model(
    path: str | Path, dtype: torch.dtype = torch.float32, verify: bool = True
) -> tuple[HybridPotential, ModelInfo]:
    """Read an .hff file and check it.

    Args:
        path: of the file.
        dtype: precision of the networks.
        verify: recompute the stored reference results (a fraction of a second).

    Raises:
        CheckpointError: missing, damaged, tampered with, newer than this package, or its reference
            results are not reproduced.
    """
    path = Path(path)
    description, tensors = read_file(path)
    info, domain = dict(description["info"]), domain_in(description)
    try:
        with torch.random.fork_rng(devices=[]):  # weights that are drawn here are not kept
            terms = {
                entry["name"]: TERMS[entry["kind"]](**entry["config"])
                for entry in description["terms"]
            }
        potential = HybridPotential(terms, description["elements"])
        potential.scales = {k: float(v) for k, v in description.get("scales", {}).items()}
        info["trained_with"] = tuple(info["trained_with"])
        model_info = ModelInfo(**info, domain=domain)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"expected terms that hff_ase {__version__} knows, got {path} with {in_one_line(error)}"
        ) from error
    prefix = "weights."
    weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    potential.set_dtype(torch.float64)  # holds weights of either precision exactly
    try:
        potential.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"expected weights that fit the terms of {path}, got {in_one_line(error)}"
        ) from None
    potential.set_dtype(dtype).requires_grad_(False).eval()
    if verify:
        _check_references(path, potential, description["n_references"], tensors)
    return potential, model_info


def _without_domain(info: ModelInfo) -> dict[str, Any]:
    content = asdict(replace(info, domain=None))
    del content["domain"]
    return content


def _reference_arrays(potential: HybridPotential, atoms: Atoms) -> dict[str, np.ndarray]:
    batch = AtomsBatch.from_atoms(atoms)
    result = potential(batch)
    if result.forces is None:
        raise CheckpointError("expected forces from the potential, got none")
    arrays = {name: batch.arrays[name] for name in ALWAYS if name != "system"}
    return {
        **{name: array.numpy() for name, array in arrays.items()},
        "energy": result.energy.numpy(),
        "forces": result.forces.numpy(),
    }


def _check_references(
    path: Path, potential: HybridPotential, n_references: int, tensors: dict[str, Tensor]
) -> None:
    for index in range(n_references):
        stored = {
            name.split(".", 2)[2]: value
            for name, value in tensors.items()
            if name.startswith(f"reference.{index}.")
        }
        try:
            energy, force = _differences(potential, stored)
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise CheckpointError(
                f"expected to evaluate reference structure {index} in {path}, got "
                f"{in_one_line(error)}"
            ) from error
        if not (energy <= ENERGY_TOLERANCE and force <= FORCE_TOLERANCE):
            raise CheckpointError(
                f"expected the stored results of reference structure {index} in {path} to "
                f"{ENERGY_TOLERANCE} eV/atom and {FORCE_TOLERANCE} eV/A, got differences of "
                f"{energy:.2g} eV/atom and {force:.2g} eV/A"
            )


def _differences(potential: HybridPotential, stored: dict[str, Tensor]) -> tuple[float, float]:
    """Largest deviation from a stored energy (eV per atom) and from stored forces (eV/A)."""
    arrays = {name: stored[name] for name in ALWAYS if name != "system"}
    batch = AtomsBatch.of({**arrays, "system": torch.zeros_like(stored["numbers"])})
    result = potential(batch, stress=False)
    energy = float((result.energy - stored["energy"]).abs().max()) / batch.n_atoms
    return energy, float((result.forces - stored["forces"]).abs().max())
