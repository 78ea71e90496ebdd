"""What an uploaded model file is looked at for before anyone loads it. Runs nothing of it.

A filter, not the wall: it answers at once, and in words, what the sealed child would only fail at.
"""
