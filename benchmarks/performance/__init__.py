"""What a probe and an answer cost, each figure beside its own reference."""
