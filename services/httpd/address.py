"""The address that a server listens on: host names are resolved before anything depends on them."""

import ipaddress
import socket

from registry.errors import InvalidSetting
from registry.quoting import quoted

LOOPBACK = "127.0.0.1"


def resolve(host: str) -> str:
    """Return the IP address of a host name; an address is returned as it is.

    ``localhost`` and names below it are the loopback address, whatever a resolver returns (RFC 6761, 6.3). For other
    names, the first IPv4 address is used, else the first address.

    Args:
        host: a name, or an IPv4 or IPv6 address, the latter with or without brackets.

    Raises:
        InvalidSetting: the name is empty or has no address.
    """
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if _is_address(bare):
        return bare
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return LOOPBACK
    if not host:
        raise InvalidSetting(
            "expected a --host to listen on, got an empty one; 0.0.0.0 listens on every address"
        )
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidSetting(
            f"expected a --host that is an address or a name of this machine, got {quoted(host)}: {reason}"
        ) from error
    addresses = sorted((entry[4][0] for entry in found), key=lambda address: ":" in str(address))
    return str(addresses[0])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; False for a name, which may resolve to any address."""
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def url_of(host: str, port: int) -> str:
    """Return the URL of a server at an address; IPv6 addresses are put in brackets."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
