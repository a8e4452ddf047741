"""Training: labelled frames, losses and a trainer."""
