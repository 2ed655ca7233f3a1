"""Access to Circus, which supervises BentoML's workers. Only this module relies on the internals of Circus.

Circus checks its processes every ten seconds and has no public function to do so now. Its arbiter is found through
the handler that it installs for SIGTERM. These assumptions are checked before the server starts.
"""

import asyncio
import inspect
import signal
from collections.abc import Iterator

_AGAIN_S = 0.2


def check_circus() -> None:
    """Check the assumptions of ``manage_processes_now``.

    Raises:
        RuntimeError: this version of Circus works differently.
    """
    missing = list(_missing())
    if missing:
        raise RuntimeError(
            f"expected Circus to have {', '.join(missing)}, without which ended workers are not replaced at once; "
            "install the version in requirements.lock"
        )


def manage_processes_now() -> None:
    """Let Circus check its processes now; called from a signal handler. Does nothing before Circus runs."""
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
        except ConflictError:  # another command is running; if it is a stop, it ends this loop
            await asyncio.sleep(_AGAIN_S)


def _missing() -> Iterator[str]:
    """Yield the parts of Circus that are not as expected."""
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
