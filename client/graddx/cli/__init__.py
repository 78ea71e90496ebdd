"""The command line: `graddx check`."""
