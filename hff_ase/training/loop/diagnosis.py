"""Find the frames and terms that made a loss infinite."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hff_ase.data.labels import Frame, to_device
from hff_ase.errors import HFFError
from hff_ase.potential import HybridPotential
from hff_ase.training.losses import differences


def explain_nonfinite(
    potential: HybridPotential, sources: Sequence[str], frames: Sequence[Frame], step: int
) -> str:
    """One line that names the frames of this process's share and what was not finite there."""
    culprits = []
    for source, frame in zip(sources, frames, strict=True):
        wrong = _wrong(potential, frame)
        if wrong:
            culprits.append(f"{source} ({', '.join(wrong)})")
    advice = "look at these frames, or lower optimizer.learning_rate"
    if culprits:
        names = "; ".join(culprits)
        return f"expected a finite loss, got none at step {step} from {names}: {advice}"
    names = ", ".join(sources[:5]) or "of other processes"
    return (
        f"expected a finite loss and gradient, got none at step {step} from frames {names}"
        f"{' ...' if len(sources) > 5 else ''}, each of which has finite errors: {advice}"
    )


def _wrong(potential: HybridPotential, frame: Frame) -> list[str]:
    batch, labels = frame
    device = next(potential.parameters()).device
    if batch.device != device:
        batch, labels = to_device(frame, device)
    try:
        found = differences(batch, potential(batch), labels)
    except HFFError as error:
        return [str(error)]
    return [name for name, (error, _) in found.items() if not bool(torch.isfinite(error).all())]
