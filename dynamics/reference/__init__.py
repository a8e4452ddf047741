"""Measured properties of liquids and electrolytes, to compare with; see SOURCES.md beside it."""
