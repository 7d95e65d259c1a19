"""Where the controller is, and a connection to it.

What is said is used and nothing else: an address given to `Client`, `$CRANE_SOCKET`,
`$CRANE_CONFIG`, `$CRANE_HOME` (a development cluster of `crane up`). If nothing is said: this
host's own controller (`/run/crane/cranectld.sock`), the cluster of `/etc/crane/crane.toml`, then
this user's development cluster (`~/.crane/dev`). An address is a path, `unix:PATH` or `HOST:PORT`.
"""

from __future__ import annotations

import os

from crane.client.door import DoorTransport
from crane.errors import CraneError, ErrorCode, shown
from crane.record import dataclass

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crane.client.transport import Transport

SYSTEM_SOCKET = "/run/crane/cranectld.sock"
SYSTEM_CONFIG = "/etc/crane/crane.toml"
SOCKET_NAME = "cranectld.sock"
CONFIG_NAME = "crane.toml"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a controller may be, and who says so."""

    address: str
    """Path of a socket, or `host:port`."""
    origin: str
    host_door: str = ""
    """Socket of the daemon on this host that can issue tokens; only with `host:port`."""

    @property
    def local(self) -> bool:
        """Whether it is a socket of this host."""
        return "/" in self.address


def default_home(environ: Mapping[str, str]) -> str:
    """Directory of the development cluster: `$CRANE_HOME`, or `~/.crane/dev`."""
    return environ.get("CRANE_HOME") or os.path.expanduser("~/.crane/dev")


def places(address: str, environ: Mapping[str, str]) -> Iterator[Place]:
    """Places to try, in order; lazily, so that no file is read in vain."""
    if address:
        yield _place(address, "given", environ)
    elif environ.get("CRANE_SOCKET"):
        yield _place(environ["CRANE_SOCKET"], "CRANE_SOCKET", environ)
    elif environ.get("CRANE_CONFIG"):
        yield from _configured(environ["CRANE_CONFIG"])
    elif environ.get("CRANE_HOME"):
        yield Place(os.path.join(environ["CRANE_HOME"], SOCKET_NAME), "CRANE_HOME")
    else:
        yield Place(SYSTEM_SOCKET, "this host's controller")
        if os.path.exists(SYSTEM_CONFIG):
            yield from _configured(SYSTEM_CONFIG)
        yield Place(os.path.join(default_home(environ), SOCKET_NAME), "development cluster")


def _place(address: str, origin: str, environ: Mapping[str, str]) -> Place:
    path = address.removeprefix("unix:")
    if "/" in path:
        return Place(path, origin)
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise CraneError(
            ErrorCode.USAGE,
            f"{shown(address)} ({origin}) is no address of a controller",
            "write the path of its socket, or HOST:PORT",
        )
    return Place(address, origin, environ.get("CRANE_HOST_SOCKET", "/run/crane/craned.sock"))


def _configured(path: str) -> Iterator[Place]:
    """Places a configuration file names: the controller's socket, then its address."""
    from crane.config.load import load  # noqa: PLC0415 - 20 ms, spared where a socket is known

    config = load(path)
    yield Place(config.controller.socket, path)
    yield Place(config.agent.controller, path, config.agent.socket)


def connect(address: str = "", environ: Mapping[str, str] | None = None) -> Transport:
    """A connection to the controller.

    Raises CONTROLLER_UNREACHABLE with everything that was tried.
    """
    tried: list[str] = []
    for place in places(address, os.environ if environ is None else environ):
        try:
            if place.local:
                return DoorTransport(place.address)
            from crane.client.grpc_transport import GrpcTransport  # noqa: PLC0415 - 150 ms

            return GrpcTransport(place.address, place.host_door)
        except OSError as error:
            tried.append(f"{place.address} ({place.origin}): {_why(error)}")
        except CraneError as error:
            if error.code is not ErrorCode.CONTROLLER_UNREACHABLE:
                raise
            tried.append(f"{place.address} ({place.origin}): {error.message}")
    raise CraneError(
        ErrorCode.CONTROLLER_UNREACHABLE,
        "no controller can be reached; tried " + "; ".join(tried),
        "start a development cluster with `crane up`, or name a controller: CRANE_SOCKET=PATH",
    )


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such socket"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    return str(error.strerror or error)
