"""What a force call costs: times per step, split by term, memory and yardsticks (``hff bench``)."""
