"""The members as modules of torch, for TorchScript."""
