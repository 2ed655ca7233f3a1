"""Limits on connections: number, time and bytes."""

import ipaddress
import resource
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

from registry.errors import InvalidSetting

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

RESERVED_FILES = 256
"""File handles reserved for models, the registry and logs, out of those that the system allows."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one process on its connections. Times are in seconds.

    Attributes:
        connections: connections open at once, at least 1.
        per_address: connections open at once from one address, 1 to ``connections``; trusted proxies have no such
            limit.
        head_s: time from the first byte of a request's head to its last.
        body_s: time without a byte of a body that the server waits for.
        write_s: time in which a client must take at least ``write_bytes`` of a waiting answer, or the rest of it.
        write_bytes: see ``write_s``.
        unsent_bytes: bytes of all answers that wait for slow clients; beyond this, the slowest client is
            disconnected.
        drain_s: time for which input is read and dropped after the last answer, so that the client reads that answer.
        drain_bytes: bytes of that input.
        drains: connections in that state at once; the oldest gives way to a newer one.
        proxies: addresses of trusted proxies.
    """

    connections: int = 4096
    per_address: int = 2048
    head_s: float = 10.0
    body_s: float = 10.0
    write_s: float = 10.0
    write_bytes: int = 8 << 10
    unsent_bytes: int = 256 << 20
    drain_s: float = 10.0
    drain_bytes: int = 64 << 20
    drains: int = 16
    proxies: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.per_address <= self.connections:
            raise InvalidSetting(
                f"connections of one address are 1 to {self.connections:,} (those in all), got {self.per_address:,}"
            )
        if min(self.head_s, self.body_s, self.write_s, self.drain_s) <= 0:
            raise InvalidSetting("time limits of connections are above 0 seconds")

    def within_files(self) -> Self:
        """Return these limits, with at most as many connections as the process has file handles for."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return self
        most = max(1, min(self.connections, soft - RESERVED_FILES))
        return replace(self, connections=most, per_address=min(self.per_address, most))

    def trusts(self, address: str) -> bool:
        """Return whether an address is that of a trusted proxy."""
        if not self.proxies:
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.proxies)


def networks(addresses: tuple[str, ...]) -> tuple[Network, ...]:
    """Read addresses and networks (``10.0.0.0/8``).

    Raises:
        InvalidSetting: one of them is neither.
    """
    try:
        return tuple(ipaddress.ip_network(address, strict=False) for address in addresses)
    except ValueError as error:
        raise InvalidSetting(f"a trusted proxy is an IP address or network: {error}") from error
