"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from cranectld.sim.csim.errors import HOST_FAILED, CsimError


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Name under which to write what becomes `path` at the end. OSError becomes a CsimError."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        message = f"{path}: cannot be written: {error.strerror or error}"
        raise CsimError(message, HOST_FAILED) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)
