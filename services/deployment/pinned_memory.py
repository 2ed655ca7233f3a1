"""Rows that are filled up on their way to a GPU, in memory that the device reads by itself.

Ordinary memory may be moved by the system at any moment, so CUDA copies it into page-locked memory of
its own first, piece by piece. Rows that lie in page-locked memory already are fetched in one transfer
(CUDA C++ Programming Guide, "Page-Locked Host Memory").
"""

import ctypes
import functools
import logging
import threading
import weakref
from collections.abc import Callable

import numpy as np

_log = logging.getLogger("cultivar.staging")

_LIBRARIES = ("libcudart.so.13", "libcudart.so.12")
_PORTABLE = 1
"""``cudaHostAllocPortable``: page-locked for every context of the process."""

Allocate = Callable[[int], np.ndarray | None]
"""Returns so many bytes, uint8 [bytes], or None where there are none of this kind."""


def page_locked(size: int) -> np.ndarray | None:
    """Return page-locked memory, uint8 [size], or None where CUDA gives none; it is freed with the array."""
    runtime = _runtime()
    if runtime is None:
        return None
    pointer = ctypes.c_void_p()
    status = runtime.cudaHostAlloc(ctypes.byref(pointer), ctypes.c_size_t(size), ctypes.c_uint(_PORTABLE))
    if status or pointer.value is None:
        _log.warning("CUDA gives no page-locked memory (error %d); rows go by ordinary memory", status)
        return None
    memory = (ctypes.c_uint8 * size).from_address(pointer.value)
    weakref.finalize(memory, runtime.cudaFreeHost, pointer).atexit = False  # the device may be gone by then
    return np.frombuffer(memoryview(memory), np.uint8)


class PinnedBuffers:
    """Buffers for the rows of one session's inputs: one for each thread and input, as large as was needed yet.

    Args:
        allocate: gives the memory; where it gives none, ordinary memory is taken.
    """

    def __init__(self, allocate: Allocate = page_locked) -> None:
        self._allocate = allocate
        self._own = threading.local()

    def stage(self, port: str, rows: np.ndarray, size: int) -> np.ndarray:
        """Return rows as the device reads them, and the last one again until there are ``size``.

        What is returned holds until the same thread stages the same input again.

        Args:
            port: name of the input.
            rows: one or more, at most ``size``.
            size: of the batch.
        """
        shape = (size, *rows.shape[1:])
        staged = self._bytes(port, rows.dtype.itemsize * int(np.prod(shape))).view(rows.dtype).reshape(shape)
        staged[: len(rows)] = rows
        staged[len(rows) :] = rows[-1]
        return staged

    def _bytes(self, port: str, size: int) -> np.ndarray:
        buffers: dict[str, np.ndarray] = self._own.__dict__
        buffer = buffers.get(port)
        if buffer is None or len(buffer) < size:
            room = 1 << (size - 1).bit_length()
            given = self._allocate(room)
            buffer = buffers[port] = np.empty(room, np.uint8) if given is None else given
        return buffer[:size]


@functools.cache
def _runtime() -> ctypes.CDLL | None:
    """Return CUDA's runtime, which ONNX Runtime's provider has loaded, or None."""
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
