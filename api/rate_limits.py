"""How many calls one caller may make, counted in this process over a sliding window."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

IPV6_PREFIX = 64
"""Bits: one IPv6 customer has that many addresses to spare."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands after one more call."""

    allowed: bool
    """False: this call is one too many."""
    limit: int
    """Calls per window."""
    remaining: int
    """Calls left now."""
    reset_seconds: int
    """Seconds until there are more, at least 1."""
    window_seconds: int
    """Length of the window."""

    @property
    def headers(self) -> Mapping[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-07 has them."""
        told = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
            "RateLimit-Policy": f"{self.limit};w={self.window_seconds}",
        }
        return told if self.allowed else {**told, "Retry-After": str(self.reset_seconds)}


class RateLimits:
    """Counts calls by caller."""

    def __init__(self, rate: str) -> None:
        """`rate`: as `GRADDX_RATE_LIMIT`, COUNT/second and so on."""
        self._rate = parse(rate)
        self._counter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count(self, caller: str) -> Standing:
        """One more call of this caller."""
        allowed = self._counter.hit(self._rate, caller)
        window = self._counter.get_window_stats(self._rate, caller)
        return Standing(
            allowed,
            self._rate.amount,
            window.remaining if allowed else 0,
            max(1, math.ceil(window.reset_time - time.time())),
            self._rate.get_expiry(),
        )


def address_of(host: str | None) -> str:
    """Who a caller without a key is taken for: its address, of IPv6 the network."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return f"address {host}"
    if isinstance(address, IPv6Address):
        return f"address {ip_network((address, IPV6_PREFIX), strict=False)}"
    return f"address {address}"
