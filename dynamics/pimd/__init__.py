"""Path integral molecular dynamics: i-PI moves the beads, one forward pass evaluates them all."""
