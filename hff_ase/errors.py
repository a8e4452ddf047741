"""Errors a user can cause: each message is one line that says what was expected and what was got.

The command line turns any of them into that line on stderr and exit code 2.
"""

from __future__ import annotations

from signal import Signals

LONGEST = 200  # characters of another library's message that a message of ours holds


def in_one_line(error: BaseException) -> str:
    """What another library's error says, as a part of one line; its kind where it says nothing."""
    return " ".join(str(error).split())[:LONGEST] or type(error).__name__


class HFFError(Exception):
    """Base class of every error that user input can cause; `exit_code` is the command line's."""

    exit_code = 2


class StructureError(HFFError, ValueError):
    """A structure that cannot be evaluated: positions, cell, pbc, charge or elements."""


class ConfigError(HFFError, ValueError):
    """An invalid setting or combination of settings."""


class CheckpointError(HFFError, ValueError):
    """A model file that is missing, damaged, tampered with or from a newer version."""


class RecipeError(HFFError, ValueError):
    """A recipe for a liquid box that cannot be read or cannot be met."""


class OutsideDomainError(HFFError, ValueError):
    """Molecules that a model was not trained on, where that was not allowed."""


class SimulationError(HFFError, RuntimeError):
    """A simulation that cannot start, cannot continue or cannot be resumed."""


class StoppedError(SimulationError):
    """A simulation that a signal ended between two steps, where it can be resumed."""

    def __init__(self, message: str, signal_name: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + Signals[signal_name]  # as shells have it: 130 for Ctrl-C


class HFFWarning(UserWarning):
    """Something works, but probably not as intended (a trained term removed, a short box ...)."""


class OutsideDomainWarning(HFFWarning):
    """A model evaluates molecules that it was not trained on."""
