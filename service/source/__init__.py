"""An architecture as PyTorch source that anyone can run, read and change."""

from service.source.model import pytorch_source

__all__ = ["pytorch_source"]
