"""Give the shipped models, and what is imported from BAMBOO, their domains.

    python models/recipes/domains.py

Molecules, compositions and ranges are those of the frames that the models' cards name; errors are
those of the neat liquids among the held-out frames, in the cards' tables.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from hff_ase.domain import Companion, Domain, KnownMolecule
from hff_ase.domain_json import domain_to_dict
from hff_ase.dynamics.build import compose, find_component, ions, parse_recipe
from hff_ase.importers.bamboo import DOMAIN
from hff_ase.model_file import write_domain
from hff_ase.models import model_path
from hff_ase.topology import perceive

sys.path.insert(0, str(Path(__file__).parent / "electrolyte"))

from liquids import LIQUIDS, SOLVENTS, random_mixtures

# Numbers and seeds of the random mixtures as `make.py` drew them: 60 for the sixth training and
# 120 for the seventh (README.md); the sibling has the first ones.
MIXTURES = {"electrolyte": ((60, 5), (120, 6)), "electrolyte-e3": ((60, 5),)}
ATOMS = 200  # of a box of `make.py`
# Of the labelled boxes that training begins with, those with more salt than the liquids' recipes.
BOXES = (
    "LiFSI:DMC 8:10 mol/mol",
    "LiTFSI:DMC 6:8 mol/mol",
    "LiFSI:EC:EMC 6:6:6 mol/mol",
    "LiTFSI:PC 4:11 mol/mol",
    "LiPF6:EC:DMC 4:8:7 mol/mol",
)
COMPRESSION = (0.85, 1.2)  # densities of its rounds over those of the recipe
IONS = ("Li", "PF6", "FSI", "TFSI")
LARGE = 2_000_000  # atoms, for shares without rounding


def known(name: str, share: float | None, errors: dict[str, float]) -> KnownMolecule:
    """A molecule of the library."""
    molecule = ions()[name] if name in ions() else find_component(name)
    graph = perceive(molecule.atoms()).graph(0)
    charge = ions()[name].charge if name in ions() else 0
    return KnownMolecule(name, graph, charge, share, errors)


def shares(recipes: list[str]) -> dict[str, float]:
    """The largest share of each molecule or ion over some liquids."""
    largest: dict[str, float] = {}
    for recipe in recipes:
        parts = compose(parse_recipe(recipe), LARGE).molecules
        total = sum(n for _, n in parts)
        for molecule, n in parts:
            largest[molecule.name] = max(largest.get(molecule.name, 0.0), n / total)
    return {name: round(share, 3) for name, share in largest.items()}


def errors_of_neat(card: Path) -> dict[str, dict[str, float]]:
    """Force errors by neat solvent from the first table by system of a card."""
    text = card.read_text(encoding="utf-8").split("Left out:")[0]
    rows = re.findall(r"^\| (\w+) \| \d+ \| \S+ \| \S+ \| ([\d.]+) \|", text, re.MULTILINE)
    return {SOLVENTS[n]: {"forces_meV_per_A": float(e)} for n, e in rows if n in SOLVENTS}


# Measured by benchmarks/uncertainty.py; the threshold is a little above the largest inside (0.095).
COMPANIONS = {"electrolyte": Companion("electrolyte-e3", factor=1.27, threshold=0.1)}


def electrolyte(name: str) -> Domain:
    """The liquids of the recipe and the random mixtures that a model was trained on."""
    recipes = [*LIQUIDS.values(), *BOXES]
    for number, seed in MIXTURES.get(name, ()):
        recipes += random_mixtures(number, seed=seed, n_atoms=ATOMS).values()
    largest = shares(recipes)
    densities = [compose(parse_recipe(recipe), LARGE).density for recipe in recipes]
    low, high = COMPRESSION
    errors = errors_of_neat(model_path(name).with_suffix(".md"))
    return Domain(
        tuple(known(n, largest[n], errors.get(n, {})) for n in (*SOLVENTS.values(), *IONS)),
        temperature=(250.0, 600.0),
        density=(round(low * min(densities), 2), round(high * max(densities), 2)),
        compositions=tuple(LIQUIDS.values()),
        companion=COMPANIONS.get(name),
    )


def ecemc() -> Domain:
    """4 EC and 8 EMC in boxes of 160 atoms, 300 to 1200 K (Magdau et al., 2023)."""
    return Domain(
        (known("EC", round(1 / 3, 3), {}), known("EMC", round(2 / 3, 3), {})),
        temperature=(300.0, 1200.0),
        density=(0.48, 1.30),
        compositions=("EC:EMC 1:2 mol/mol",),
    )


def bamboo() -> Domain:
    """Solvents and salts that the published BAMBOO weights were trained on."""
    molecules = (*SOLVENTS.values(), *IONS)
    return Domain(tuple(known(name, None, {}) for name in molecules))


def main() -> None:
    """Write all of them."""
    for name in ("electrolyte", "electrolyte-e3", "electrolyte-inner"):
        write_domain(model_path(name), electrolyte(name))
    write_domain(model_path("ecemc-dft"), ecemc())
    DOMAIN.write_text(json.dumps(domain_to_dict(bamboo()), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
