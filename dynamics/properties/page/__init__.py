"""The page of a run: one HTML file that needs neither a server nor a network."""
