"""The learning rate of a step."""

from __future__ import annotations

import math

from hff_ase.training.config import OptimizerSection, ScheduleSection


def learning_rate(
    step: int, done: float, schedule: ScheduleSection, optimizer: OptimizerSection
) -> float:
    """Linear warm-up, then decay to the final rate.

    Args:
        step: steps taken so far.
        done: the part of what follows the warm-up that is done, 0 to 1.
    """
    highest, lowest = optimizer.learning_rate, schedule.final_learning_rate
    if step < schedule.warmup:
        return highest * (step + 1) / schedule.warmup
    done = min(max(done, 0.0), 1.0)
    if schedule.decay == "constant":
        return highest
    if schedule.decay == "exponential":
        return highest * (lowest / highest) ** done
    return lowest + (highest - lowest) * 0.5 * (1.0 + math.cos(math.pi * done))
