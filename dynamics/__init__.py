"""What moves atoms with the potential, and what is measured on the way."""
