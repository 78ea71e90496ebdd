"""Numbers → findings → verdict. Pure: no torch, no numpy, no IO."""
