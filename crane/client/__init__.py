"""Client of the controller: submit, query, cancel, wait, follow events.

>>> from crane.client import Client
>>> with Client() as client:
...     job = client.submit("job.sh", job_name="first", time=10)
...     print(client.wait([job])[job].state.name)
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from crane.client.client import Client as Client

__all__ = ["Client"]


def __getattr__(name: str) -> object:
    """`Client`, imported when it is asked for: commands import only the parts they use."""
    if name == "Client":
        from crane.client.client import Client  # noqa: PLC0415

        return Client
    raise AttributeError(name)
