"""What a child does for itself before it is asked anything."""

from __future__ import annotations

import gc
import os
import socket

from service.probing import child


def test_a_child_goes_through_all_its_objects_seldom() -> None:
    before = gc.get_threshold()
    ours, theirs = socket.socketpair()
    ours.close()
    try:
        child.serve(None, os.dup(theirs.fileno()), -1)
        assert gc.get_threshold() == child.GARBAGE
        assert gc.get_threshold()[:2] == before[:2]
    finally:
        gc.set_threshold(*before)
        theirs.close()
