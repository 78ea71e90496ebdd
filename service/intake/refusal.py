"""What the filter says of a file that it does not let pass."""

from __future__ import annotations


class Refused(Exception):
    """The file is not what its format says, or more; the message names the member or operator."""
