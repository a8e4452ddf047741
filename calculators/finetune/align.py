"""Density alignment: a short training that gives each liquid the pressure that its density needs.

The idea is BAMBOO's (Gong et al., Nat. Mach. Intell. 2025), made exact: the pressure is the
derivative of all terms' energy in the places of whole molecules, not a sum over edges of a network
between molecules; which change it needs follows from the samples of the model itself, and what
comes out is predicted from the same samples by reweighting.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hff_ase import parameters as named
from hff_ase.calculators.finetune.alignment_loss import Stop, Training, held_frames, rms
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.pool import Pool
from hff_ase.calculators.finetune.pressure_changes import PressureChange, pressure_changes
from hff_ase.calculators.finetune.quantities import Prediction, find, predict
from hff_ase.calculators.finetune.targets import Target
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.errors import ConfigError
from hff_ase.files import write_whole
from hff_ase.potential import HybridPotential
from hff_ase.training.fit_config import AlignSettings

__all__ = ["align"]

REPORT, MODEL, STATE = "alignment.json", "model.hff", "training.safetensors"


@dataclass(frozen=True, eq=False)
class Alignment:
    """What an alignment did.

    Attributes:
        changes: of the pressures, for the targets that were fitted.
        after: all targets by the aligned model, reweighted from the samples.
        deviations: root mean squares of what was held, on frames that were not trained on.
    """

    changes: list[PressureChange]
    after: list[Prediction]
    deviations: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """As a dict for JSON."""
        return {
            "changes": [change.as_dict() for change in self.changes],
            "after": [
                {
                    "target": str(one.target),
                    "wanted": one.target.value,
                    "value": one.value,
                    "error": one.error,
                    "n_eff": one.n_eff,
                    "n_samples": one.n_samples,
                    "kept_out": one.target.kept_out,
                }
                for one in self.after
            ],
            "deviations": self.deviations,
        }

    def markdown(self) -> str:
        """Densities before and after, as a table."""
        before = {str(change.target): change for change in self.changes}
        lines = [
            "liquid | target | before | pressure change (bar) | after | N_eff of N",
            "--- | --- | --- | --- | --- | ---",
        ]
        for one in self.after:
            change = before.get(str(one.target))
            was = "-" if change is None else f"{change.density:.4f} +- {change.density_error:.4f}"
            bar = "kept out" if change is None else f"{change.change:.0f} +- {change.error:.0f}"
            lines.append(
                f"{one.target.liquid}, {one.target.temperature:g} K | {one.target.value:.4f} | "
                f"{was} | {bar} | {one.value:.4f} +- {one.error:.4f} | "
                f"{one.n_eff:.0f} of {one.n_samples}"
            )
        return "\n".join(f"| {line} |" for line in lines) + "\n"


def align(
    calc: HybridFF,
    ensembles: Sequence[Ensemble],
    targets: Sequence[Target],
    *,
    parameters: Sequence[str] = ("heads",),
    settings: AlignSettings | Mapping[str, Any] | None = None,
    sampled_with: Sequence[HybridFF] | None = None,
    folder: str | Path | None = None,
    stop: Stop | None = None,
) -> HybridFF:
    """A calculator with the pressures that bring densities to measured ones.

    Liquids with samples and no target are held at the pressure that they have: give those whose
    density is right, and leave out those that nothing is known of.

    Args:
        calc: whose model is aligned; it is left unchanged.
        ensembles: samples of the liquids at constant pressure.
        targets: densities; those kept out are predicted only.
        parameters: names, patterns or groups of what is trained.
        settings: `AlignSettings`.
        sampled_with: of each ensemble, where it was not ``calc`` (an earlier round).
        folder: for the state of a training that is stopped, the report and the model. A training
            that is there continues.
        stop: asked before every step.

    Returns:
        A calculator; ``info.details["alignment"]`` is the report.

    Raises:
        ConfigError: no densities to fit, no samples of a liquid, or a folder with another training.
    """
    chosen = AlignSettings.load(settings)
    fitted = [target for target in targets if not target.kept_out]
    if not fitted:
        raise ConfigError("expected densities to align to, got none")
    models = [one.potential for one in sampled_with or [calc] * len(ensembles)]
    pools = [pool.with_model(calc.potential) for pool in pools_of(ensembles, models)]
    changes = pressure_changes(pools, fitted)
    new = copy.deepcopy(calc.potential)
    trained = _trained(new, parameters)
    wanted = {id(find(c.target, pools)): (c.change, c.error) for c in changes}
    out = [find(t, pools) for t in targets if t.kept_out]
    used = [p for p in pools if id(p) in wanted or not any(p is q for q in out)]
    used_changes = [wanted.get(id(pool), (0.0, 0.0)) for pool in used]
    frames, validation = held_frames(
        calc.potential, [pool.ensemble for pool in used], used_changes, chosen
    )
    path = None if folder is None else Path(folder)
    key = _key(calc, changes, parameters, chosen)
    training = Training(new, trained, chosen, path and path / STATE, key)
    training.run(frames, stop)
    again = [pool.with_model(new) for pool in pools]
    after = [predict(target, again) for target in targets]
    held = rms(new, validation or [frame for own in frames for frame in own])
    report = Alignment(changes, after, held)
    return _finish(calc, new, report, ensembles, path)


def pools_of(ensembles: Sequence[Ensemble], models: Sequence[HybridPotential]) -> list[Pool]:
    """Ensembles of the same liquid and phase put together.

    Raises:
        ConfigError: none, or another number of models.
    """
    if not ensembles or len(models) != len(ensembles):
        raise ConfigError(
            f"expected ensembles and the model of each, got {len(ensembles)} and {len(models)}"
        )
    groups: dict[tuple[Any, ...], list[int]] = {}
    for k, one in enumerate(ensembles):
        kind = (one.liquid.casefold(), one.periodic, one.pressure is None, len(one.numbers))
        volume = round(float(one.volumes[0]), 3) if one.pressure is None else 0.0
        groups.setdefault((*kind, volume), []).append(k)
    return [
        Pool.of([ensembles[k] for k in own], [models[k] for k in own]) for own in groups.values()
    ]


def _trained(potential: HybridPotential, patterns: Sequence[str]) -> dict[str, Any]:
    names = named.matching(potential, patterns)
    found = named.tensors(potential, names)
    if not found:
        raise ConfigError(
            f"expected weights to train in an alignment, such as heads, got {', '.join(patterns)}: "
            "scales and constants are calibrated"
        )
    return found


def _key(
    calc: HybridFF,
    changes: Sequence[PressureChange],
    parameters: Sequence[str],
    settings: AlignSettings,
) -> str:
    """What makes a training the same."""
    content = {
        "changes": [(str(one.target), round(one.change, 2)) for one in changes],
        "parameters": list(parameters),
        "settings": settings.model_dump(),
        "model": calc.info.name,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finish(
    calc: HybridFF,
    new: HybridPotential,
    report: Alignment,
    ensembles: Sequence[Ensemble],
    folder: Path | None,
) -> HybridFF:
    info = replace(
        calc.info,
        name=f"{calc.info.name}-aligned",
        description=f"{calc.info.description} Aligned to measured densities.".strip(),
        provenance=f"{calc.info.provenance}; densities: "
        + "; ".join(sorted({change.target.source or "own" for change in report.changes})),
        details={**calc.info.details, "alignment": report.as_dict()},
    )
    aligned = HybridFF(
        new,
        info,
        device=str(calc.device),
        dtype=calc.dtype,
        skin=calc.skin,
        kernels=calc.potential.kernels,
    )
    if folder is not None:
        aligned.save(folder / MODEL, [ensembles[0].atoms(0)])
        text = json.dumps(report.as_dict(), indent=1) + "\n"
        write_whole(folder / REPORT, text.encode())
        write_whole(folder / "alignment.md", report.markdown().encode())
    return aligned
