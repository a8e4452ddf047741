"""What a model may be used for: the molecules, elements and conditions that it was trained on.

A domain travels with the model in its .hff file. Molecules are graphs, so that an isomer or a
fragment is not taken for what it resembles; errors of a model inside its domain say nothing about
molecules outside of it, not even whether they hold together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ase import Atoms
from ase.data import chemical_symbols

from hff_ase.errors import ConfigError
from hff_ase.molecule_graph import MoleculeGraph
from hff_ase.topology import Connectivity, Kind, perceive

# A share of molecules may exceed the largest of training by this factor before it is said.
SHARE_SLACK = 1.1
UNKNOWN = (
    "nothing like it was in training; fine-tune the model on labels of it (hff label, hff "
    "finetune) or take a model that knows it (hff models)"
)
EXTRAPOLATED = "results are extrapolated"
Range = tuple[float, float]
Naming = Callable[[MoleculeGraph], str | None]


@dataclass(frozen=True)
class KnownMolecule:
    """A molecule or ion that a model was trained on.

    Attributes:
        name: what people call it.
        graph: its elements and bonds.
        charge: formal, e.
        share: its largest share among the molecules of a training frame; None if not known.
        errors: of the model on it, by name with unit, such as ``forces_meV_per_A``.
    """

    name: str
    graph: MoleculeGraph
    charge: int = 0
    share: float | None = None
    errors: Mapping[str, float] = field(default_factory=dict)

    def called(self, names: Naming | None) -> str:
        """Its name; if that is only a formula, the name in ``names``."""
        if self.name != self.graph.formula or names is None:
            return self.name
        return names(self.graph) or self.name


@dataclass(frozen=True)
class Outside:
    """One thing about a structure, or a run, that a model was not trained on.

    Attributes:
        kind: "molecule", "share", "temperature", "density" or "pressure".
        name: of the molecule if known, else its formula; or what is outside.
        formula: of a molecule, "" otherwise.
        count: molecules of this kind, 0 for conditions.
        what: in words, "40 molecules of sulfolane (C4H8O2S)".
        advice: what to do about it.
    """

    kind: str
    name: str
    formula: str
    count: int
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}: {self.advice}"


def not_trained_on(model: str, unknown: Sequence[Outside], allowed: bool | None = None) -> str:
    """The messages about molecules outside a model's domain.

    Args:
        model: its name.
        unknown: the molecules, at least one.
        allowed: whether a run continues with them; None where nothing was asked (a warning).
    """
    what, advice = ", ".join(outside.what for outside in unknown), unknown[0].advice
    if allowed:
        return f"{model} was not trained on {what}; continuing because of --outside-domain"
    if allowed is None:
        return f"{model} was not trained on {what}: {advice}"
    return (
        f"{model} was not trained on {what}: {advice}, or run at your own risk with "
        "--outside-domain"
    )


@dataclass(frozen=True)
class Companion:
    """A second model, whose difference from a model estimates the error of that model's forces.

    Both were trained on the same labels and share their errors. Molecules outside the training are
    recognised by their graph, not by this difference.

    Attributes:
        model: name of a shipped model.
        factor: root mean square of the error over that of the spread
            (`hff_ase.calculators.spread.Spread`) on labelled frames that none was trained on.
        threshold: estimated error, mean over the atoms of a frame, eV/Angstrom, that none of these
            frames exceeds.
    """

    model: str
    factor: float
    threshold: float


@dataclass(frozen=True)
class Domain:
    """What a model was trained on.

    Attributes:
        molecules: molecules and ions.
        temperature: K, lowest and highest; None if not known, as below.
        density: g/cm3.
        pressure: bar.
        compositions: recipes of what it was trained on, for people.
        companion: what tells the error of its forces during a run; None where nothing does.
    """

    molecules: tuple[KnownMolecule, ...]
    temperature: Range | None = None
    density: Range | None = None
    pressure: Range | None = None
    compositions: tuple[str, ...] = ()
    companion: Companion | None = None

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements of its molecules, by atomic number."""
        numbers = {z for molecule in self.molecules for z in molecule.graph.numbers}
        return tuple(chemical_symbols[z] for z in sorted(numbers))

    @cached_property
    def _by_key(self) -> dict[str, list[KnownMolecule]]:
        found: dict[str, list[KnownMolecule]] = {}
        for molecule in self.molecules:
            found.setdefault(molecule.graph.key, []).append(molecule)
        return found

    def find(self, graph: MoleculeGraph) -> KnownMolecule | None:
        """The molecule of the domain with this graph, or None."""
        candidates = self._by_key.get(graph.key, [])
        return next((known for known in candidates if known.graph.is_same(graph)), None)

    def joined(self, other: Domain) -> Domain:
        """The domain of a model trained on this one's frames and on another's.

        Molecules of both have this one's name and charge and the larger share, and no errors:
        those were of the model before, as its companion is. Ranges span both; one that either
        does not know is not known.
        """
        molecules = []
        for known in self.molecules:
            same = other.find(known.graph)
            shares = [m.share for m in (known, same) if m is not None]
            share = None if None in shares else max(s for s in shares if s is not None)
            molecules.append(replace(known, share=share, errors={}))
        molecules += [m for m in other.molecules if self.find(m.graph) is None]
        return Domain(
            tuple(molecules),
            _span(self.temperature, other.temperature),
            _span(self.density, other.density),
            _span(self.pressure, other.pressure),
            tuple(dict.fromkeys((*self.compositions, *other.compositions))),
        )

    def check(self, structure: Atoms | Connectivity, names: Naming | None = None) -> list[Outside]:
        """What lies outside of the domain: each kind of molecule once, then unusual shares.

        ``names`` says what a molecule that is not in the domain is called, where it knows.
        """
        topology = perceive(structure) if isinstance(structure, Atoms) else structure
        kinds = topology.kinds()
        known = [self.find(kind.graph) for kind in kinds]
        found = [_unknown(k, names) for k, m in zip(kinds, known, strict=True) if m is None]
        for kind, molecule in zip(kinds, known, strict=True):
            share = kind.count / topology.n_molecules
            if molecule and molecule.share and share > min(1.0, SHARE_SLACK * molecule.share):
                found.append(_unusual(kind, molecule, share, names))
        return found

    def check_conditions(
        self,
        temperature: float | None = None,
        density: float | None = None,
        pressure: float | None = None,
    ) -> list[Outside]:
        """Which of temperature (K), density (g/cm3) and pressure (bar) lie outside."""
        asked = (
            ("temperature", temperature, self.temperature, "K"),
            ("density", density, self.density, "g/cm3"),
            ("pressure", pressure, self.pressure, "bar"),
        )
        found = []
        for name, value, known, unit in asked:
            if value is not None and known is not None and not known[0] <= value <= known[1]:
                what = f"{name} {value:g} {unit} (trained from {known[0]:g} to {known[1]:g})"
                found.append(Outside(name, name, "", 0, what, EXTRAPOLATED))
        return found


def domain_of(structures: Iterable[Atoms], names: Naming | None = None) -> Domain:
    """The domain of training frames: every kind of molecule in them, with its largest share.

    Broken molecules of frames that went wrong are kinds of their own: leave such frames out.

    Raises:
        ConfigError: no frame.
    """
    found: dict[str, list[tuple[MoleculeGraph, float]]] = {}
    for atoms in structures:
        topology = perceive(atoms)
        for kind in topology.kinds():
            share = kind.count / topology.n_molecules
            same = found.setdefault(kind.graph.key, [])
            for place, (graph, largest) in enumerate(same):
                if graph.is_same(kind.graph):
                    same[place] = (graph, max(largest, share))
                    break
            else:
                same.append((kind.graph, share))
    if not found:
        raise ConfigError("expected at least one frame for a domain, got none")
    return Domain(
        tuple(
            KnownMolecule((names(graph) if names else None) or graph.formula, graph, share=share)
            for same in found.values()
            for graph, share in same
        )
    )


def names_in(atoms: Atoms) -> Naming:
    """Names from ``info["molecules"]``, as ``hff build`` writes them."""
    called = atoms.info.get("molecules")
    ids = atoms.arrays.get("molecule")
    if ids is None or not isinstance(called, Sequence) or isinstance(called, str):
        return lambda graph: None
    found: dict[str, str] = {}
    topology = perceive(atoms)
    for kind in topology.kinds():
        number = int(ids[topology.members[int(kind.molecules[0])][0]])
        if 0 <= number < len(called):
            found[kind.graph.key] = str(called[number])
    return lambda graph: found.get(graph.key)


def _span(one: Range | None, other: Range | None) -> Range | None:
    if one is None or other is None:
        return None
    return min(one[0], other[0]), max(one[1], other[1])


def _unknown(kind: Kind, names: Naming | None) -> Outside:
    formula = kind.graph.formula
    name = (names(kind.graph) if names else None) or formula
    what = name if name == formula else f"{name} ({formula})"
    number = "1 molecule" if kind.count == 1 else f"{kind.count} molecules"
    return Outside("molecule", name, formula, kind.count, f"{number} of {what}", UNKNOWN)


def _unusual(kind: Kind, molecule: KnownMolecule, share: float, names: Naming | None) -> Outside:
    name = molecule.called(names)
    what = (
        f"{name} at {100 * share:.0f} % of the molecules (up to "
        f"{100 * (molecule.share or 0.0):.0f} % in training)"
    )
    return Outside("share", name, kind.graph.formula, kind.count, what, EXTRAPOLATED)
