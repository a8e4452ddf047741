"""Trainer: a potential, labelled frames and settings in; averaged weights out."""

from __future__ import annotations

import copy
import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from hff_ase.data.dataset import Dataset, MemoryDataset
from hff_ase.errors import ConfigError, StoppedError
from hff_ase.potential import PRECISIONS, HybridPotential
from hff_ase.training.config import TrainConfig
from hff_ase.training.loop.clock import Clock
from hff_ase.training.loop.diagnosis import explain_nonfinite
from hff_ase.training.loop.distributed import Processes, device_of_process
from hff_ase.training.loop.loader import Batches, Place, frames_from, share_of
from hff_ase.training.loop.logbook import Logbook, LogRow
from hff_ase.training.loop.optim import Average, make_optimizer
from hff_ase.training.loop.resume import check_same_settings, settings_text
from hff_ase.training.loop.schedule import learning_rate
from hff_ase.training.loop.state import STATE, load_state, save_state
from hff_ase.training.loop.step import Squares, Stepper, add_squares, summed
from hff_ase.training.loop.validation import evaluate, rmse
from hff_ase.training.losses import LossWeights


class StopSource(Protocol):
    """An object that knows whether a signal asks to stop."""

    signal_name: str | None


class Trainer:
    """Trains a potential in place; a run that ended early continues from ``<output>/state.pt``.

    Args:
        potential: terms with trainable parameters (those that require gradients).
        train: labelled frames, with the contribution of terms outside the potential subtracted.
        validation: of the same kind, or None.
        config: settings; its model and data sections are not looked at.
        processes: the group of processes that train together.
        stop: asked after every step whether to stop.

    Raises:
        ConfigError: settings that do not go together, or nothing to train.
    """

    def __init__(
        self,
        potential: HybridPotential,
        train: Dataset,
        validation: Dataset | None,
        config: TrainConfig,
        *,
        processes: Processes | None = None,
        stop: StopSource | None = None,
    ) -> None:
        self.config, self.processes = config, processes or Processes()
        self.train, self.validation, self._stop = train, validation, stop
        self.folder = Path(config.output)
        self.device = device_of_process(config.device)
        self.potential = potential.set_dtype(PRECISIONS[config.dtype]).to(self.device)
        self.processes.same_everywhere(list(potential.parameters()))
        self.optimizer = make_optimizer(potential, config.optimizer)
        self.average = Average(potential, config.ema.decay)
        self.averaged = self.average.model
        self._stepper = Stepper(
            potential,
            self.optimizer,
            self.device,
            self.processes,
            config.gradients,
            config.optimizer.clip,
            config.batching.micro_batch,
            same_frames=isinstance(train, MemoryDataset) and config.batching.workers == 0,
        )
        self.batches = Batches(train, config.batching, config.seed, potential.cutoff)
        self._check_batches()
        self.step, self.place = 0, Place()
        self._used = 0.0  # part of the limits, as the first process sees it
        self._recent: Squares = {}
        self._best: dict[str, Any] = {}
        self.rows: list[LogRow] = []

    @property
    def n_steps(self) -> int | None:
        """Length of the run in steps; None where a time limit ends it."""
        schedule = self.config.schedule
        if schedule.by == "time":
            return None
        if schedule.steps is not None:
            return schedule.steps
        return max(math.ceil((schedule.epochs or 0.0) * len(self.batches.of(0))), 1)

    @property
    def progress(self) -> float:
        """The part of the run that is done."""
        return self._used if self.n_steps is None else self.step / self.n_steps

    def run(self) -> HybridPotential:
        """Train to the end; the potential with averaged weights.

        Raises:
            ConfigError: loss or gradient are not finite (the message names the frames), a frame
                does not fit into memory, or the saved run had other settings.
            CheckpointError: the saved state is damaged or cannot be written.
            StoppedError: a signal stopped the run.
        """
        if self.processes.first:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._clock = Clock(self.config.limits)
        if (self.folder / STATE).exists():
            self._load()
        folder = self.folder if self.processes.first else None
        with ExitStack() as stack:
            log = stack.enter_context(Logbook(folder, self.config.logging, self.n_steps, self.rows))
            if not self._finished():
                self._loop(log)
        if self.config.ema.keep == "best" and self._best:
            self.averaged.load_state_dict(self._best["weights"])
        return self.averaged.eval()

    def _finished(self) -> bool:
        return self._used >= 1.0 or (self.n_steps is not None and self.step >= self.n_steps)

    def _loop(self, log: Logbook) -> None:
        walk = self.batches_from_here()
        every = self.config.logging.validate_every
        last_row, saved = (self.step, self._clock.wall), time.monotonic()
        for frames in walk:
            epoch = self.place.epoch
            done = self._one_step(frames)
            finished = self._finished()
            due = self.place.epoch > epoch if every is None else self.step % every == 0
            if due or finished:
                log.add(self._row(last_row))
                self.rows, last_row = log.rows, (self.step, self._clock.wall)
            if due or finished or done or self._save_due(saved):
                self._save()
                saved = time.monotonic()
            if done and not finished:
                raise StoppedError(
                    f"training stopped at step {self.step} by {done}; continue with --resume",
                    done,
                )
            log.progress(self.step, f"{100 * self.progress:.1f} %")
            if finished:
                return

    def batches_from_here(self) -> Any:
        """This process's frames of every batch that is still to come."""
        workers = self.config.batching.workers
        return frames_from(self.train, self.batches, self.place, self.processes, workers)

    def _one_step(self, frames: list[Any]) -> str | None:
        """Take a step; the name of the signal that stops the run, if one does."""
        config = self.config
        weights = config.loss.weights(self.progress)
        rate = learning_rate(self.step, self._decayed(), config.schedule, config.optimizer)
        signal_name = None if self._stop is None else self._stop.signal_name
        used = self._clock.used if self.processes.first else 0.0
        result = self._stepper.step(frames, weights, rate, (float(signal_name is not None), used))
        if not result.finite:
            share = share_of(self.batches.at(self.place), self.batches.costs, self.processes)
            names = [self.train.source(k) for k in share]
            raise ConfigError(explain_nonfinite(self.potential, names, frames, self.step))
        self.average.update()
        add_squares(self._recent, result.squares)
        n_stop, self._used = result.extra
        self.step, self.place = self.step + 1, self.batches.after(self.place)
        return (signal_name or "SIGTERM") if n_stop else None

    def _decayed(self) -> float:
        """The part of the decay of the learning rate that is done."""
        if self.n_steps is None:
            return self._used
        warmup = self.config.schedule.warmup
        return (self.step - warmup) / max(self.n_steps - warmup, 1)

    def _row(self, last: tuple[int, float]) -> LogRow:
        """A row of the log: errors over the steps since the last one, and on validation."""
        weights = self.config.loss.weights(self.progress)
        recent = summed(self._recent, self.processes)
        self._recent = {}
        seconds = self._clock.wall
        n_frames = (self.step - last[0]) * len(self.train) / max(len(self.batches.of(0)), 1)
        row: LogRow = {
            "step": self.step,
            "epoch": self.place.epoch + self.place.index / len(self.batches.of(self.place.epoch)),
            "seconds": round(seconds, 2),
            "cpu_seconds": round(self._clock.cpu, 2),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "frames_per_s": n_frames / max(seconds - last[1], 1e-9),
            "loss": total_loss(recent, weights),
        }
        row |= {f"train_{name}": value for name, value in rmse(recent).items()}
        if self.validation is not None:
            found = evaluate(self.averaged, self.validation, self.processes, self.device)
            row |= rmse(found)
            row["validation_loss"] = total_loss(found, self.config.loss.weights(1.0))
            if row["validation_loss"] < self._best.get("loss", math.inf):
                self._keep_best(row["validation_loss"])
        return row

    def _keep_best(self, value: float) -> None:
        if self.config.ema.keep == "best":
            weights = copy.deepcopy(self.averaged.state_dict())
            self._best = {"loss": value, "weights": dict(weights)}

    def _save_due(self, saved: float) -> bool:
        logging = self.config.logging
        every = logging.checkpoint_every
        if every is not None and self.step % every == 0:
            return True
        return time.monotonic() - saved > 60.0 * logging.checkpoint_minutes

    def _save(self) -> None:
        if not self.processes.first:
            return
        state = {
            "potential": self.potential.state_dict(),
            "average": self.averaged.state_dict(),
            "n_averaged": self.average.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "place": [self.place.epoch, self.place.index],
            "used": self._used,
            "limits": self.config.limits.model_dump(),
            "wall": self._clock.wall,
            "cpu": self._clock.cpu,
            "micro_batch": self._stepper.micro_batch,
            "recent": {name: list(pair) for name, pair in self._recent.items()},
            "best": self._best,
            "rows": self.rows,
            "settings": settings_text(self.config),
        }
        save_state(self.folder / STATE, state)

    def _load(self) -> None:
        state = load_state(self.folder / STATE, self.device)
        check_same_settings(state["settings"], self.config, self.folder)
        self.potential.load_state_dict(state["potential"])
        self.averaged.load_state_dict(state["average"])
        self.average.n_averaged = state["n_averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.place = state["step"], Place(*state["place"])
        self._clock = Clock(self.config.limits, state["wall"], state["cpu"])
        # a run ended by its limits continues if they have changed
        same = state["limits"] == self.config.limits.model_dump() and self.n_steps is None
        self._used = state["used"] if same else self._clock.used
        self._stepper.micro_batch = state["micro_batch"]
        if self.processes.first:  # sums over processes were the first one's to keep
            self._recent = {name: (pair[0], pair[1]) for name, pair in state["recent"].items()}
        self._best, self.rows = state["best"], state["rows"]

    def _check_batches(self) -> None:
        batching, count = self.config.batching, self.processes.count
        if not len(self.train):
            raise ConfigError("expected frames to train on, got none")
        if self.config.loss.remove_energy_mean and (
            batching.micro_batch is not None
            or (count > 1 and (batching.max_edges is not None or batching.batch_size < count))
        ):
            raise ConfigError(
                "expected whole batches with loss.remove_energy_mean, at least one frame for each "
                "process and no micro_batch or (with several processes) max_edges"
            )


def total_loss(sums: Squares, weights: LossWeights) -> float:
    """The loss of sums of squares (all systems counting alike)."""
    return sum(weights.of(name) * value / count for name, (value, count) in sums.items() if count)
