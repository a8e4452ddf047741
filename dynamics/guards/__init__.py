"""What stops a run that goes wrong: overlapping atoms, broken bonds, values that are not finite."""
