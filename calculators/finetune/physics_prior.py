"""What a fit to decomposed energies starts from: labelled scans, and a model of their molecules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms

from hff_ase.calculators.hybrid import HybridFF
from hff_ase.checkpoint import ModelInfo
from hff_ase.domain import KnownMolecule, Naming
from hff_ase.errors import ConfigError, StructureError
from hff_ase.importers.molecules import known_molecules
from hff_ase.molecular.likeness import like_others
from hff_ase.molecular.templates import Template
from hff_ase.molecule_graph import MoleculeGraph
from hff_ase.potential import HybridPotential
from hff_ase.terms.fixed_charges import FixedCharges
from hff_ase.topology import perceive

LABELS = {  # component -> what it is a sum of
    "dispersion": ("eda_dispersion",),
    "electrostatics_pauli": ("eda_electrostatics", "eda_pauli"),
    "polarization": ("eda_polarization",),
    "charge_transfer": ("eda_charge_transfer",),
}


@dataclass(frozen=True, eq=False)
class Scan:
    """One labelled frame of a scan.

    Attributes:
        name: of the scan.
        atoms: the frame.
        molecules: name -> graph.
        charges: of its molecules by id, e.
        formal: the same by name.
        labels: components, eV, in the order of `LABELS`.
    """

    name: str
    atoms: Atoms
    molecules: Mapping[str, MoleculeGraph]
    charges: dict[int, int]
    formal: dict[str, int]
    labels: list[float]


def scans_of(frames: Sequence[Atoms], prior: HybridFF, naming: Naming | None) -> list[Scan]:
    """Frames with the names of their molecules and their labels.

    Raises:
        StructureError: a frame without labels, ids or charges of its molecules.
    """
    if not frames:
        raise ConfigError("expected labelled dimers, got none")
    known, found = molecules_of(prior.potential), []
    for number, atoms in enumerate(frames):
        needed = [name for names in LABELS.values() for name in names]
        missing = [n for n in ("molecule_charges", *needed) if n not in atoms.info]
        if missing or "molecule" not in atoms.arrays:
            what = ", ".join(missing) or "molecule ids"
            raise StructureError(f"expected labels of hff label eda in frame {number}, no {what}")
        charges = np.asarray(atoms.info["molecule_charges"])
        charges = np.array(str(charges).split(), int) if charges.ndim == 0 else charges.astype(int)
        ids = atoms.arrays["molecule"]
        of = dict(zip(np.unique(ids).tolist(), charges.tolist(), strict=True))
        topology, names = perceive(atoms), dict[str, MoleculeGraph]()
        called, formal = [], dict[str, int]()
        for molecule, members in enumerate(topology.members):
            graph = topology.graph(molecule)
            own = next((one.name for one in known if one.graph.is_same(graph)), None)
            name = own or (naming(graph) if naming else None) or graph.formula
            names[name] = graph
            formal[name] = of[int(ids[members[0]])]
            called.append(name)
        labels = [sum(float(atoms.info[n]) for n in parts) for parts in LABELS.values()]
        scan = str(atoms.info.get("scan", "+".join(sorted(called))))
        found.append(Scan(scan, atoms, names, of, formal, labels))
    return found


def molecules_of(potential: HybridPotential) -> tuple[KnownMolecule, ...]:
    """The molecules that a model has charges for.

    Raises:
        ConfigError: it has no fixed charges.
    """
    for _, term in potential.named_terms():
        if isinstance(term, FixedCharges):
            return known_molecules(term.templates, term.charge())
    raise ConfigError("expected a prior model of molecules with fixed charges, got another")


def with_molecules(
    prior: HybridFF, scans: Sequence[Scan], fitted: Collection[str]
) -> tuple[HybridPotential, ModelInfo]:
    """The prior model with the molecules of the frames that it does not have.

    Raises:
        ConfigError: a name to fit that no frame has, or a term that cannot take over parameters.
        StructureError: a molecule that is neither known nor to be fitted.
    """
    graphs: dict[str, MoleculeGraph] = {}
    charges: dict[str, int] = {}
    for scan in scans:
        graphs |= scan.molecules
        charges |= scan.formal
    wanted = {name.casefold() for name in fitted}
    missing = wanted - {name.casefold() for name in graphs}
    if missing:
        raise ConfigError(
            f"expected molecules of the frames ({', '.join(graphs)}), got {', '.join(missing)}"
        )
    domain, known = prior.info.domain, molecules_of(prior.potential)
    new = [name for name in graphs if not any(one.name == name for one in known)]
    for name in new:
        if name.casefold() not in wanted:
            raise StructureError(f"expected {name} of the frames in the model or to be fitted")
    templates = [Template(n, tuple(graphs[n].numbers), tuple(graphs[n].bonds)) for n in new]
    terms = {
        name: type(term)(**_extended(term.config(), templates, charges))
        for name, term in prior.potential.named_terms()
    }
    numbers = [one.graph.numbers for one in known] + [graphs[n].numbers for n in new]
    symbols = sorted({int(z) for row in numbers for z in row})
    potential = HybridPotential(terms, _symbols(symbols)).requires_grad_(False).eval()
    potential.scales.update(prior.potential.scales)
    potential.set_dtype(torch.float64)
    more = tuple(KnownMolecule(name, graphs[name], charges[name]) for name in new)
    own = replace(domain, molecules=(*domain.molecules, *more)) if domain else None
    title = f"{prior.info.name}-{'-'.join(new or sorted(fitted))}"
    return potential, replace(prior.info, name=title, domain=own)


def _symbols(numbers: Sequence[int]) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in numbers]


def _extended(
    config: dict[str, Any], templates: Sequence[Template], charges: Mapping[str, int]
) -> dict[str, Any]:
    """A term's configuration with more molecules."""
    if "molecules" not in config:
        return config
    others = config["molecules"]
    return {
        **config,
        "molecules": [*others, *(like_others(t, charges[t.name], others) for t in templates)],
    }
