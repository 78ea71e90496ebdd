"""Signal propagation in wide networks at initialization. Standard library only: light to import."""
