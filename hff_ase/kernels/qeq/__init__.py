"""Charge equilibration's real-space part, fused."""
