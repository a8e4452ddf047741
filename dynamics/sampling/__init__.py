"""Sampling for models that are tuned to experiment: sample, gradient, step, sample again."""

from __future__ import annotations
