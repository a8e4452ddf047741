"""What a run starts from: structure, model and its domain, masses, the minimised structure."""
