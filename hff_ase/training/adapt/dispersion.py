"""Labels with and without dispersion: neither counted twice nor lost.

A model that has a dispersion term is fitted to labels of the whole energy. Labels of a method
without dispersion are completed by the model's own term first; labels that contain it are left as
they are. Which is which, frames say in ``info["method_dispersion"]`` ("none", "d3bj", ...) and
``info["method"]`` ("B3LYP/def2-SVPD").
"""

from __future__ import annotations

import copy
import logging
import re
import warnings
from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, HFFWarning
from hff_ase.potential import HybridPotential

log = logging.getLogger(__name__)

KINDS = ("d3", "bamboo_dispersion")  # terms that are dispersion
# Parts of a method's name that say that it contains long-range dispersion: nonlocal correlation
# (VV10, vdW-DF) or a correction, added or part of its definition.
VV10 = ("v", "vv10", "rvv10", "vdw")
CORRECTIONS = ("d", "d2", "d3", "d3bj", "d3zero", "d3mbj", "d3cso", "d4", "mbd", "xdm", "ts")
PARTS = frozenset((*VV10, *CORRECTIONS, "3c", "xtb"))
# The same where programs write the name as one word.
WORD = re.compile(
    r"w?b97(mv|xv|md3bj|xd|xd3|xd3bj|xd4|d|d3|3c)|(r2scan|pbeh|hf|b3lyp|wb97x)3c|gxtb|gfn[12]xtb"
)


def contained(info: dict[str, Any]) -> str | None:
    """Which dispersion the labels of a frame contain: "none", a name, or None if nobody knows."""
    stated = str(info.get("method_dispersion", "")).strip().lower()
    if stated in ("none", "no", "false"):
        # A functional that is known to contain it does so whatever correction was added.
        own = _method_contains(info)
        return own or "none"
    if stated in ("unknown", "nan"):
        stated = ""
    return stated or _method_contains(info)


def _method_contains(info: dict[str, Any]) -> str | None:
    """The functional of a frame, if it is one that is known to contain dispersion."""
    functional = str(info.get("method", "")).split("/")[0].strip()
    parts = re.split(r"[\s\-+_()]+", functional.lower().replace("ω", "w"))
    if PARTS.intersection(parts[1:]) or WORD.fullmatch("".join(parts)):
        return functional
    return None


def dispersion_terms(potential: HybridPotential) -> list[str]:
    """The names of the dispersion terms of a potential."""
    return [name for name, term in potential.named_terms() if term.kind in KINDS]


def complete_labels(
    frames: Sequence[Atoms],
    potential: HybridPotential,
    mode: str = "auto",
    quiet: bool = False,
) -> list[Atoms]:
    """Frames whose labels are what a potential with dispersion is to give.

    Args:
        mode: "auto" adds the potential's dispersion to frames that are known to lack it, "add" to
            all, "as_is" to none.
        quiet: say nothing of it (it was said before).

    Returns:
        The frames; copies where labels were changed.

    Raises:
        ConfigError: an unknown mode.

    Warns:
        HFFWarning: dispersion is added to labels that contain it, or labels without it are taken
            as they are, so that the network would learn to cancel the term.
    """
    if mode not in ("auto", "add", "as_is"):
        raise ConfigError(f"expected dispersion 'auto', 'add' or 'as_is', got {mode!r}")
    names = dispersion_terms(potential)
    if not names:
        return list(frames)
    found = [contained(atoms.info) for atoms in frames]
    if not quiet:
        _say(found, names, mode)
    lacking = [mode == "add" or (mode == "auto" and name == "none") for name in found]
    part = potential.subset(names)
    return [
        _with(atoms, part) if add else atoms for atoms, add in zip(frames, lacking, strict=True)
    ]


def _say(found: Sequence[str | None], names: Sequence[str], mode: str) -> None:
    terms = ", ".join(names)
    having = sorted({name for name in found if name not in (None, "none")}, key=str)
    lacking, unknown = found.count("none"), found.count(None)
    if mode == "add" and having:
        warnings.warn(
            f"dispersion ({terms}) is added to labels that contain it already "
            f"({', '.join(map(str, having))}): it will count twice",
            HFFWarning,
            stacklevel=4,
        )
    if mode == "as_is" and lacking:
        warnings.warn(
            f"{lacking} frames have labels without dispersion and the model has it ({terms}): the "
            "rest of the model will learn to cancel it",
            HFFWarning,
            stacklevel=4,
        )
    if unknown and mode != "add":
        log.warning(
            "%d frames do not say whether their labels contain dispersion "
            "(info['method_dispersion']); they are taken to contain it, as the model does (%s)",
            unknown,
            terms,
        )
    if lacking and mode == "auto":
        log.info("dispersion (%s) added to %d frames whose labels lack it", terms, lacking)


def _with(atoms: Atoms, part: HybridPotential) -> Atoms:
    """A copy of a frame whose energy, forces and stress contain a part of a model."""
    if atoms.calc is None:
        return atoms
    results = dict(atoms.calc.results)
    given = part(AtomsBatch.from_atoms(atoms, part.known.device))
    if given.forces is None or given.stress is None:
        raise ConfigError("expected forces and stress from the dispersion term, got none")
    energy = float(given.energy[0])
    for name in ("energy", "free_energy"):
        if name in results:
            results[name] = results[name] + energy
    if "forces" in results:
        results["forces"] = results["forces"] + given.forces.cpu().numpy()
    if "stress" in results:
        results["stress"] = results["stress"] + full_3x3_to_voigt_6_stress(
            given.stress[0].cpu().numpy()
        )
    out = atoms.copy()
    out.info = copy.deepcopy(atoms.info) | {"method_dispersion": "of the model"}
    out.calc = SinglePointCalculator(out, **results)
    return out
