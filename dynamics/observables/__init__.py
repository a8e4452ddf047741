"""What is measured along trajectories."""
