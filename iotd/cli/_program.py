"""What this program is: version, build, Python, event loop, and where its parts come from."""

from __future__ import annotations

import platform
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

from iotd._version import __version__


class CannotRunError(Exception):
    """Something outside the configuration keeps the program from running; exit code 1.

    The text is one line that says what to do.
    """


def build() -> str:
    """`compiled` or `pure`: which build of the core runs, judged by its connection module."""
    spec = find_spec("mqtt_core._connection")
    origin = (spec.origin if spec is not None else None) or ""
    return "compiled" if origin.endswith(tuple(EXTENSION_SUFFIXES)) else "pure"


def python() -> str:
    """The interpreter and its version, such as `CPython 3.11.7`."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def event_loop(runtime: str = "asyncio") -> str:
    """What drives sockets on `runtime`, with its version: `uvloop 0.22.1`, `asyncio`, `gevent ...`.

    Raises `CannotRunError` if the runtime is not installed.
    """
    if runtime == "gevent":
        try:
            import gevent
        except ImportError:
            raise CannotRunError(
                "the gevent runtime needs the package gevent; "
                "install it with: pip install 'iotd[gevent]'"
            ) from None
        return f"gevent {gevent.__version__}"
    try:
        import uvloop
    except ImportError:
        return "asyncio"
    return f"uvloop {getattr(uvloop, '__version__', '')}".rstrip()


def version_line() -> str:
    """Version, build, Python and event loop on one line."""
    return f"iotd {__version__} ({build()}), {python()}, {event_loop()}"


def check_adapters() -> None:
    """See that `adapters` is the namespace that ours is in, not another package of that name.

    Python prefers a regular package or a module anywhere on its path to a namespace. Raises
    `CannotRunError` with the path that is in the way.
    """
    spec = find_spec("adapters")
    if spec is not None and spec.origin is not None:
        raise CannotRunError(
            f'another package named "adapters" hides iotd\'s own: {spec.origin}; remove it from '
            "Python's path, or install iotd in an environment of its own"
        )
    if find_spec("adapters.transport") is None:
        raise CannotRunError("iotd is not installed completely: adapters.transport is missing")
