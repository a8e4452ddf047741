"""The cost of a force call: time per step, time by term, and memory (``hff bench``)."""
