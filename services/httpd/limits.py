"""What connections may take: how many, how long, and how much."""

import ipaddress
import resource
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

from registry.errors import InvalidSetting

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

RESERVED_FILES = 256
"""File handles that connections leave to models, the registry and logs, of those that the system allows."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one process on its connections. Times are in seconds.

    Attributes:
        connections: open at once, at least 1.
        per_address: open at once from one address, 1 to ``connections``; proxies that are trusted have no such limit.
        head_s: from the first byte of a request's head to its last.
        body_s: without a byte of a body that the server waits for.
        write_s: in which a client takes at least ``write_bytes`` of an answer that waits for it, or all of it.
        write_bytes: see there.
        unsent_bytes: of answers that wait for slow clients, all together; where there are more, the slowest client is
            given up.
        drain_s: for which input is read and dropped after the last answer, so that the client reads that answer.
        drain_bytes: of that input.
        drains: connections in that state at once; the oldest gives way to a newer one.
        proxies: addresses of proxies that are trusted.
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
        """Return these limits, with no more connections than the process may have file handles for."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return self
        most = max(1, min(self.connections, soft - RESERVED_FILES))
        return replace(self, connections=most, per_address=min(self.per_address, most))

    def trusts(self, address: str) -> bool:
        """Say whether an address is that of a trusted proxy."""
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
