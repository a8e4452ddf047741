"""Errors a user can cause: each message is one line that says what was expected and what was got.

The command line turns any of them into that line on stderr and exit code 2.
"""

from __future__ import annotations


class HFFError(Exception):
    """Base class of every error that user input can cause."""


class StructureError(HFFError, ValueError):
    """A structure that cannot be evaluated: positions, cell, pbc, charge or elements."""


class ConfigError(HFFError, ValueError):
    """A setting, or a combination of settings, that makes no sense."""


class CheckpointError(HFFError, ValueError):
    """A model file that is missing, damaged, tampered with or from a newer version."""


class RecipeError(HFFError, ValueError):
    """A recipe for a liquid box that cannot be read or cannot be met."""


class SimulationError(HFFError, RuntimeError):
    """A simulation that cannot start, cannot go on or cannot be resumed."""


class HFFWarning(UserWarning):
    """Something works, but probably not as meant (a trained term removed, a short box ...)."""
