"""Circus, which supervises BentoML's workers: the only module that knows how it works inside.

Circus looks after its processes every ten seconds and has no public way to be told to do so now. Its arbiter is found
behind the handler that it puts on SIGTERM. What this relies on is checked before the server starts.
"""

import asyncio
import inspect
import signal
from collections.abc import Iterator

_AGAIN_S = 0.2


def check_circus() -> None:
    """Check what ``manage_processes_now`` relies on.

    Raises:
        RuntimeError: this version of Circus works otherwise.
    """
    missing = list(_missing())
    if missing:
        raise RuntimeError(
            f"expected Circus to have {', '.join(missing)}: a worker that ended could not be replaced at once; "
            "install the version that requirements.lock names"
        )


def manage_processes_now() -> None:
    """Let Circus look after its processes now; called from a signal handler. Before Circus runs nothing happens."""
    handler = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    controller = getattr(handler, "controller", None)
    if controller is not None:
        controller.loop.add_callback_from_signal(_manage, controller.arbiter)


async def _manage(arbiter: object) -> None:
    from circus.exc import ConflictError  # type: ignore[import-untyped]  # it has no types

    while True:
        try:
            await arbiter.manage_watchers()  # type: ignore[attr-defined]  # Circus has no types
            return
        except ConflictError:  # another command is under way, stopping perhaps, which ends this loop
            await asyncio.sleep(_AGAIN_S)


def _missing() -> Iterator[str]:
    """Yield what of Circus is not as expected."""
    try:
        from circus.arbiter import Arbiter  # type: ignore[import-untyped]  # it has no types
        from circus.controller import Controller  # type: ignore[import-untyped]  # it has no types
        from circus.exc import ConflictError
        from circus.sighandler import SysHandler  # type: ignore[import-untyped]  # it has no types
        from tornado.ioloop import IOLoop
    except ImportError as error:
        yield str(error.name)
        return
    if "controller" not in inspect.signature(SysHandler).parameters:
        yield "SysHandler(controller)"
    if signal.SIGTERM not in getattr(SysHandler, "SIGNALS", ()):
        yield "SysHandler on SIGTERM"
    if not {"loop", "arbiter"} <= inspect.signature(Controller).parameters.keys():
        yield "Controller(loop, arbiter)"
    if not callable(getattr(Arbiter, "manage_watchers", None)):
        yield "Arbiter.manage_watchers"
    if not callable(getattr(IOLoop, "add_callback_from_signal", None)):
        yield "IOLoop.add_callback_from_signal"
    if not issubclass(ConflictError, Exception):
        yield "ConflictError"
