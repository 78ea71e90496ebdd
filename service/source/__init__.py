"""An architecture as PyTorch source that anyone can run, read and change."""
