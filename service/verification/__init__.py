"""Advice is applied and measured before it is offered, and the smallest set that works is found."""
