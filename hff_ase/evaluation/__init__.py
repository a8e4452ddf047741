"""Evaluation of a model: predictions, errors, tables and parity plots."""
