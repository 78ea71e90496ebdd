"""The members as architecture specs, as far as the grammar can say them."""
