"""Error tables as text, markdown and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.units import Debye

from hff_ase.evaluation.report import Errors, Statistics, statistics

# how a property is printed: factor from ASE's unit, unit, decimals
UNITS: dict[str, tuple[float, str, int]] = {
    "energy": (1e3, "meV/atom", 2),
    "forces": (1e3, "meV/A", 1),
    "stress": (1e3, "meV/A^3", 3),
    "pressure": (1.0, "bar", 0),
    "charges": (1e3, "me", 2),
    "dipole": (1.0 / Debye, "D", 3),
    "esp": (1e3, "mV", 1),
}


ASE_UNITS = {
    "energy": "eV/atom",
    "forces": "eV/A",
    "stress": "eV/A^3",
    "pressure": "bar",
    "charges": "e",
    "dipole": "e A",
    "esp": "V",
}
PER_ATOM = ("forces", "charges")


@dataclass(frozen=True)
class ErrorTable:
    """A table of texts: title, header and rows."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """As a markdown table."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tables(errors: Errors) -> list[ErrorTable]:
    """Errors by property, element, system and energy term, where available."""
    made = [_by_property(errors), _by_element(errors), _by_system(errors), _by_term(errors)]
    return [table for table in made if table.rows]


def markdown_tables(errors: Errors) -> str:
    """The tables of a model card."""
    return "\n\n".join(f"### {table.title}\n\n{table.markdown()}" for table in tables(errors))


def as_dict(errors: Errors) -> dict[str, Any]:
    """Everything as plain data: statistics in ASE's units, pressure in bar."""
    return {
        "units": ASE_UNITS,
        "n_frames": len(errors.systems),
        "properties": {n: _plain(errors.statistics(n)) for n in errors.properties},
        "elements": {
            symbol: _compared({n: errors.statistics(n, element=symbol) for n in PER_ATOM})
            for symbol in errors.elements
        },
        "systems": {
            key: _compared({n: errors.statistics(n, system=key) for n in errors.properties})
            for key in sorted(set(errors.systems))
        },
        "terms": {name: _term_summary(errors, name) for name in errors.terms},
        "element_shift_eV": errors.element_shift,
    }


def as_json(errors: Errors) -> str:
    """`as_dict` as text; what is not a number is null."""
    return json.dumps(as_dict(errors), indent=1) + "\n"


def _by_property(errors: Errors) -> ErrorTable:
    header = ("property", "unit", "RMSE", "MAE", "bias", "largest", "RMS of labels", "numbers")
    rows = []
    for name in errors.properties:
        factor, unit, digits = UNITS[name]
        found = errors.statistics(name)
        shown = (found.rmse, found.mae, found.bias, found.largest, found.label_rms)
        texts = (_text(factor * value, digits) for value in shown)
        rows.append((name, unit, *texts, str(found.n)))
    return ErrorTable("Errors by property", header, rows)


def _by_element(errors: Errors) -> ErrorTable:
    names = [name for name in PER_ATOM if name in errors.samples]
    header = ["element"]
    for name in names:
        header += [f"{name} RMSE", f"{name} MAE", f"{name} bias"]
    rows = []
    for element in errors.elements:
        cells = [element]
        for name in names:
            factor, _, digits = UNITS[name]
            found = errors.statistics(name, element=element)
            cells += [_text(factor * x, digits) for x in (found.rmse, found.mae, found.bias)]
        rows.append(tuple(cells))
    return ErrorTable(f"Errors by element ({_units(names)})", tuple(header), rows)


def _by_system(errors: Errors) -> ErrorTable:
    header, names = ["system", "frames"], errors.properties
    if "energy" in names:
        header += ["energy bias", "energy scatter"]
    shown = [name for name in ("forces", "pressure", "charges", "dipole", "esp") if name in names]
    header += [f"{name} RMSE" for name in shown]
    header += ["pressure bias"] if "pressure" in names else []
    rows = []
    for system in sorted(set(errors.systems)):
        cells = [system, str(errors.systems.count(system))]
        if "energy" in names:
            bias, scatter = errors.bias("energy", system=system), errors.scatter("energy", system)
            cells += [_text(1e3 * bias, 2), _text(1e3 * scatter, 2)]
        for name in shown:
            factor, _, digits = UNITS[name]
            cells.append(_text(factor * errors.rmse(name, system=system), digits))
        if "pressure" in names:
            cells.append(_text(errors.bias("pressure", system=system), 0))
        rows.append(tuple(cells))
    listed = [name for name in ("energy", *shown) if name in names]
    return ErrorTable(f"Errors by system ({_units(listed)})", tuple(header), rows)


def _by_term(errors: Errors) -> ErrorTable:
    header = ("term", "mean (eV/atom)", "spread (meV/atom)", "RMSE (meV/atom)")
    rows: list[tuple[str, ...]] = []
    for name in errors.terms:
        found = _term_summary(errors, name)
        spread = _text(1e3 * found["spread"], 2)
        rmse = _text(1e3 * found["rmse"], 2) if "rmse" in found else ""
        rows.append((name, f"{found['mean']:.4f}", spread, rmse))
    return ErrorTable("Energy by term (spread within systems)", header, rows)


def _term_summary(errors: Errors, name: str) -> dict[str, float]:
    """Mean and spread of a term's energy per atom, eV, and its error where it has labels."""
    energy, systems = errors.terms[name], np.array(errors.systems)
    within = np.concatenate(
        [energy[systems == key] - energy[systems == key].mean() for key in set(errors.systems)]
    )
    found = {"mean": float(energy.mean()), "spread": float(np.std(within))}
    if name in errors.term_errors:
        samples = errors.term_errors[name]
        found["rmse"] = statistics(samples, np.ones(len(samples.label), dtype=bool)).rmse
    return found


def _compared(found: dict[str, Statistics]) -> dict[str, dict[str, float | None]]:
    return {name: _plain(statistics_) for name, statistics_ in found.items() if statistics_.n}


def _plain(found: Statistics) -> dict[str, float | None]:
    return {k: v if math.isfinite(v) else None for k, v in asdict(found).items()}


def _units(names: Sequence[str]) -> str:
    return ", ".join(f"{name} {UNITS[name][1]}" for name in names)


def _text(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"
