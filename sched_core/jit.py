"""How a kernel is compiled: one signature, without the GIL, cached, never during a pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache

from sched_core import cachedir

_DIRECTORY = cachedir.freeze()
_njit: Any = numba.njit
_tuple_of: Any = numba.types.BaseTuple.from_types
_config: Any = numba.config

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_KERNELS: list[tuple[Any, Any]] = []
_READY: list[Any] = []
_I = numba.int64
_TYPES: dict[str, Any] = {
    "int": _I,
    "bool": numba.boolean,
    "None": numba.void,
    "Vector": _I[::1],
    "Matrix": _I[:, ::1],
    "Cube": _I[:, :, ::1],
    "FloatMatrix": numba.float64[:, ::1],
    "Narrow": numba.int32[:, ::1],
}


def numba_types(annotated: Any, scope: dict[str, Any]) -> list[Any]:
    """The numba types of annotations: `_TYPES`, or NamedTuples of such found in `scope`."""
    types = []
    for annotation in annotated.__annotations__.values():
        name = getattr(annotation, "__forward_arg__", annotation)
        if name not in _TYPES:
            _TYPES[name] = _tuple_of(numba_types(scope[name], {}), scope[name])
        types.append(_TYPES[name])
    return types


def _last_name(module: str) -> str:
    return module.removeprefix(f"{cachedir.PACKAGE}.")


class _Place:
    """Tells numba where a kernel is kept (`cachedir.place`): the directory's name is its stamp."""

    def __init__(self, module: str) -> None:
        self._path = str(_DIRECTORY / cachedir.place(_last_name(module)))

    @classmethod
    def from_function(cls, function: Any, _file: str) -> _Place:
        return cls(function.__module__)

    def get_cache_path(self) -> str:
        return self._path

    def ensure_cache_path(self) -> None:
        os.makedirs(self._path, exist_ok=True)

    def get_source_stamp(self) -> str:
        return self._path

    def get_disambiguator(self) -> str:
        return "kernel"


class _PlaceImpl(CompileResultCacheImpl):
    _locator_classes: list[Any] = [_Place]  # noqa: RUF012  (as numba declares it)


class _KernelCache(FunctionCache):
    _impl_class = _PlaceImpl


def _keep_in(dispatcher: Any, cache: _KernelCache) -> None:
    dispatcher._cache = cache  # noqa: SLF001  (what `cache=True` does, with numba's own places)


def kernel(function: Kernel) -> Kernel:
    """Compile a function with the one signature that its annotations say (`Vector`, `Matrix`, ...).

    Without runtime (`_nrt=False`): a kernel can neither allocate nor count references.
    `error_model="numpy"`: it never raises; the code sees to it that no divisor is zero.
    Other kernels can call it, Python cannot (see `entry`).
    """
    return _register(function, no_cpython_wrapper=True)


def entry(function: Kernel) -> Kernel:
    """A kernel that Python calls."""
    return _register(function, no_cpython_wrapper=False)


def _register(function: Kernel, *, no_cpython_wrapper: bool) -> Kernel:
    types = numba_types(function, function.__globals__)
    compiled: Kernel = _njit(
        nogil=True,
        error_model="numpy",
        _nrt=False,
        no_cfunc_wrapper=True,
        no_cpython_wrapper=no_cpython_wrapper,
    )(function)
    if not _config.DISABLE_JIT:
        _keep_in(compiled, _KernelCache(function))  # type: ignore[no-untyped-call]
    _KERNELS.append((compiled, types[-1](*types[:-1])))
    return compiled


def inlined(function: Kernel) -> Kernel:
    """A kernel with one caller: becomes part of it before compiling, so it is compiled once.

    LLVM optimises a kernel anew within every kernel that calls it; depth of calls is what makes
    compiling slow.
    """
    compiled: Kernel = _njit(nogil=True, error_model="numpy", _nrt=False, inline="always")(function)
    return compiled


def compile_kernels() -> None:
    """Compile or load every kernel defined so far, callees first, and forbid any other signature.

    Explicit and final, lest a literal argument makes another copy of a kernel and all it calls.
    Idempotent and cheap once done; processes that compile at the same time share the work. Does
    nothing when numba is disabled (NUMBA_DISABLE_JIT=1).
    """
    while len(_READY) < len(_KERNELS):
        function, signature = _KERNELS[len(_READY)]
        if not _config.DISABLE_JIT:
            with cachedir.alone(_DIRECTORY, _last_name(function.__module__)):
                function.compile(signature)
            function.disable_compile()
        _READY.append(function)
