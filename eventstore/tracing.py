"""Give OpenTelemetry a span for what takes long, where the program has loaded its API.

Nothing is loaded here and nothing configured: a program that uses OpenTelemetry has imported it
before it opens a store. Without that a span costs a look into `sys.modules`. Names are
`eventstore.open`, `.commit`, `.sync`, `.as_of`, `.snapshot`, `.verify` and `.backup`. An error that
leaves a span is noted in it. No attribute holds a name, a reason or an actor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_API = "opentelemetry.trace"
_NOTHING: AbstractContextManager[object] = nullcontext()


def span(name: str, **attributes: int) -> AbstractContextManager[object]:
    """Return a block that is a span, or nothing where nobody traces.

    Args:
        name: behind `eventstore.`.
        attributes: numbers that say how much was done, also behind that.
    """
    if not _loaded():
        return _NOTHING
    from opentelemetry import trace

    return trace.get_tracer("eventstore").start_as_current_span(
        f"eventstore.{name}",
        attributes={f"eventstore.{key}": value for key, value in attributes.items()},
    )


def traced(name: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Return a decorator that makes each call of a function a span."""

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        @wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            if not _loaded():
                return function(*args, **kwargs)
            with span(name):
                return function(*args, **kwargs)

        return call

    return decorate


def traced_steps(name: str, steps: Iterator[_T]) -> Iterator[_T]:
    """Iterate over steps in a span, which whoever takes the steps is not in."""
    if not _loaded():
        yield from steps
        return
    from opentelemetry import trace

    mark = trace.get_tracer("eventstore").start_span(f"eventstore.{name}")
    try:
        yield from steps
    except Exception as error:
        mark.record_exception(error)
        mark.set_status(trace.Status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        raise
    finally:
        mark.end()


def _loaded() -> bool:
    """Tell whether the program has the API; who keeps a module out puts None in its place."""
    return sys.modules.get(_API) is not None
