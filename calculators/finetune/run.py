"""One training of a whole potential: the trainable part, and the rest put back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms

from hff_ase.data.checks import check_frames
from hff_ase.data.dataset import MemoryDataset
from hff_ase.data.labels import result_of, source_of
from hff_ase.errors import ConfigError, StructureError
from hff_ase.files import write_whole
from hff_ase.potential import HybridPotential
from hff_ase.training.adapt import AdaptConfig, merge, split_fixed
from hff_ase.training.config import TrainConfig
from hff_ase.training.loop.state import STATE
from hff_ase.training.loop.trainer import StopSource, Trainer

WHAT = "finetune.json"  # in the output folder: what the run there is made of


@dataclass(frozen=True)
class Run:
    """A training.

    Attributes:
        potential: the whole one, of which the parameters that require gradients are trained.
        frames, validation: whose labels are of the whole energy.
        config: settings.
        output: folder; None keeps nothing.
        resume: go on with the run there.
        stop: asked after every step whether to stop.
    """

    potential: HybridPotential
    frames: Sequence[Atoms]
    validation: Sequence[Atoms]
    config: TrainConfig
    output: str | Path | None = None
    resume: bool = False
    stop: StopSource | None = None

    def __call__(
        self,
        before: Callable[[HybridPotential, MemoryDataset], object],
        adapt: AdaptConfig | None = None,
    ) -> HybridPotential:
        """The whole potential with trained weights: plain, frozen, in evaluation mode.

        Args:
            before: called with the trainable part and its data before the training.
            adapt: what was changed in the model, to recognise the run.

        Raises:
            ConfigError: the output folder holds a run already, or to resume, another one.
            StructureError: a frame cannot be used; the message names it.
        """
        home = self.potential.known.device
        potential = self.potential.to("cpu")  # frames become tensors there
        for atoms in (*self.frames, *self.validation):
            check_elements(potential, atoms)
        self._check_labels()
        trainable, fixed = split_fixed(potential)
        data = MemoryDataset.from_atoms(self.frames, fixed)
        held_out = MemoryDataset.from_atoms(self.validation, fixed) if self.validation else None
        before(trainable, data)
        if self.output is not None:
            self._claim(Path(self.output), adapt)
        with TemporaryDirectory() as scratch:
            config = self.config.model_copy(update={"output": str(self.output or scratch)})
            trainer = Trainer(trainable, data, held_out, config, stop=self.stop)
            trained = merge(trainer.run().to("cpu"))
        terms = dict(potential.named_terms()) | dict(trained.named_terms())
        whole = HybridPotential(terms, potential.elements)
        whole.kernels = potential.kernels
        whole.set_dtype(trained.dtype).to(home)
        return whole.requires_grad_(False).eval()

    def _check_labels(self) -> None:
        """Look for broken labels, among those of one method at a time: each has its own zero."""
        methods: dict[str, list[Atoms]] = {}
        for atoms in (*self.frames, *self.validation):
            methods.setdefault(str(atoms.info.get("method")), []).append(atoms)
        for frames in methods.values():
            check_frames(frames)

    def _claim(self, folder: Path, adapt: AdaptConfig | None) -> None:
        """Write down what the run in a folder is, or see that it is this one."""
        sha = hashlib.sha256()
        for atoms in self.frames:
            for array in (atoms.numbers, atoms.positions, atoms.get_cell().array):
                sha.update(np.ascontiguousarray(array).tobytes())
            sha.update(str(result_of(atoms, "energy")).encode())
        for name, parameter in sorted(self.potential.state_dict().items()):
            sha.update(name.encode() + parameter.detach().cpu().double().numpy().tobytes())
        changes = {} if adapt is None else adapt.model_dump(mode="json", exclude_defaults=True)
        now = {"adapt": changes, "sha256": sha.hexdigest()}
        path = folder / WHAT
        if (folder / STATE).exists():
            if not self.resume:
                raise ConfigError(
                    f"expected an output folder without a training in it (or resume), got {folder}"
                )
            if not path.exists() or json.loads(path.read_text()) != now:
                raise ConfigError(
                    f"expected the model, frames and changes of the training in {folder} to resume "
                    "it, got others: use another output"
                )
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(now, indent=1) + "\n").encode())


def check_elements(potential: HybridPotential, atoms: Atoms) -> None:
    """Refuse a frame with an element that the model does not know, naming both and the way out.

    Raises:
        StructureError: names the element and the frame.
    """
    unknown = set(atoms.symbols) - set(potential.elements or atoms.symbols)
    if unknown:
        raise StructureError(
            f"expected the elements that the model knows ({' '.join(potential.elements or ())}), "
            f"got {' '.join(sorted(unknown))} in frame {source_of(atoms)}; "
            "add_elements (on the command line --add-element) makes it know more"
        )
