"""Pads batches for a GPU in pinned (page-locked) memory, which the device reads directly.

The system may move pageable memory at any time, so CUDA first copies it, chunk by chunk, into page-locked memory of
its own. Rows that are in page-locked memory already are fetched in one transfer (CUDA C++ Programming Guide,
"Page-Locked Host Memory").
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
"""Returns memory of a number of bytes, uint8 [bytes], or None if there is none of this kind."""


def page_locked(size: int) -> np.ndarray | None:
    """Return page-locked memory, uint8 [size], or None if CUDA gives none; it is freed with the array."""
    runtime = _runtime()
    if runtime is None:
        return None
    pointer = ctypes.c_void_p()
    status = runtime.cudaHostAlloc(ctypes.byref(pointer), ctypes.c_size_t(size), ctypes.c_uint(_PORTABLE))
    if status or pointer.value is None:
        _log.warning("CUDA gives no page-locked memory (error %d); pageable memory is used", status)
        return None
    memory = (ctypes.c_uint8 * size).from_address(pointer.value)
    weakref.finalize(memory, runtime.cudaFreeHost, pointer).atexit = False  # the device may be gone by then
    return np.frombuffer(memoryview(memory), np.uint8)


class PinnedBuffers:
    """Buffers for the inputs of one run: one for each thread and input, which grow as needed.

    Args:
        allocate: returns the memory; if it returns None, pageable memory is used.
    """

    def __init__(self, allocate: Allocate = page_locked) -> None:
        self._allocate = allocate
        self._own = threading.local()

    def stage(self, port: str, rows: np.ndarray, size: int) -> np.ndarray:
        """Copy rows into a buffer, padded to ``size`` by repeating the last one.

        The returned array is valid until the same thread stages the same input again.

        Args:
            port: name of the input.
            rows: one or more, at most ``size``.
            size: size of the batch.
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
    """Return the CUDA runtime library, which ONNX Runtime's provider has loaded, or None."""
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
