"""How a probe is run safely: single-use children behind a wall. Knows no torch."""
