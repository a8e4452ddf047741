"""How good a model is: predictions, errors, tables and parity plots."""
