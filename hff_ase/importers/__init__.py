"""Readers of other packages' models: arrays and settings in, a HybridPotential out."""
