"""The page that a run is shown on: one HTML file that needs neither a server nor a network."""
