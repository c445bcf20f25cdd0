"""The guard that keeps every test on this machine."""

from __future__ import annotations

import ipaddress


class OutsideNetworkError(RuntimeError):
    """A test tried to reach something that is not on this machine."""


def stay_on_loopback(event: str, args: tuple[object, ...]) -> None:
    """Refuse every connection, message and look-up that leaves the loopback range."""
    if not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) and address else None  # a Unix socket's address is no tuple
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if not is_loopback(host):
        raise OutsideNetworkError(f"{event} to {host!r}: tests talk to 127.0.0.0/8, ::1 and localhost only")


def is_loopback(host: object) -> bool:
    """Tell whether a host, as the socket functions take it, is this machine and nothing else."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name is None or name == "localhost":
        return True
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False
