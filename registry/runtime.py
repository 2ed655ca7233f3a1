"""ONNX Runtime: the one module that imports it.

Sessions run on CUDA if there is a working device, and otherwise on the CPU. The number of threads follows the
process's CPU quota: ONNX Runtime itself counts cores only, and would start one thread per core of the host in
a container with a quota of two (microsoft/onnxruntime#29510).
"""

import functools
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime as ort

from registry.errors import RuntimeFailure
from registry.segments import Detached
from registry.signature import TensorSpec

_log = logging.getLogger("cultivar.runtime")

VERSION: str = ort.__version__
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
}
_FLOATING = frozenset({"float16", "float32"})
_ERRORS_ONLY = 3
_FATAL_ONLY = 4
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")

_TENSOR_SHARE = 0.75
_FOLDED_BYTES = 1 << 30
"""Bytes of the constants that a session computes when it is opened, which do not count as its tensors."""
_FOLDING = "optimization.constant_folding_max_output_size_in_bytes"
_arena: list[int] = []
"""The bytes of the arena that sessions share, once it is made; ONNX Runtime allows one per kind and process."""
_OUT_OF_MEMORY = re.compile(r"Available memory of (\d+) is smaller than requested bytes of (\d+)")


def cpu_quota() -> int:
    """Return the number of cores that this process may use, at least 1: affinity and cgroup v2 quota, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, -(-int(quota) // int(period))))


def memory_quota() -> int:
    """Return the bytes of memory that this process may use: the machine's, or fewer by cgroup v2."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # "max" is no limit
        memory = min(memory, int(_CGROUP_MEMORY.read_text()))
    return memory


def limit_tensors(limit: int = 0, *, processes: int = 1) -> None:
    """Limit the memory of the tensors of all sessions of this process; the first call decides.

    A small file can compute a tensor of any size. Beyond the limit a run fails; without one, the system would kill
    the process.

    Args:
        limit: bytes; 0 takes three quarters of ``memory_quota()``, divided by the processes.
        processes: processes that share the memory equally.
    """
    if not _arena:
        _arena.append(limit or int(_TENSOR_SHARE * memory_quota()) // processes)
        info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
        ort.create_and_register_allocator(info, ort.OrtArenaCfg(_arena[0], -1, -1, -1))  # all else by default


@functools.cache
def usable_providers() -> tuple[str, ...]:
    """Return the providers that a session can use on this machine, the preferred one first.

    ONNX Runtime lists the CUDA provider whenever its build has it. Only opening a session shows whether a
    device and its libraries exist.
    """
    if not _has_nvidia_device():
        return (CPU,)
    if CUDA in ort.get_available_providers() and _opens_on_cuda():
        return (CUDA, CPU)
    _log.warning(
        "there is an NVIDIA device, but ONNX Runtime cannot use it: everything runs on the CPU; "
        "the extra cultivar[gpu] installs the CUDA libraries that it needs"
    )
    return (CPU,)


class OnDevice:
    """Rows that stay on the device on which they were computed.

    Padding rows of the batch may follow them.

    Attributes:
        rows: the number of rows.
    """

    __slots__ = ("_value", "rows")

    def __init__(self, value: ort.OrtValue, rows: int) -> None:
        self._value = value
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def numpy(self) -> np.ndarray:
        """Copy the rows to host memory."""
        whole: np.ndarray = self._value.numpy()
        return whole[: self.rows]

    def bind(self, binding: ort.IOBinding, name: str) -> None:
        """Bind the rows as an input of a run, without a copy."""
        binding.bind_ortvalue_input(name, self._value)


class Placed:
    """A model with its weights on the sessions' device: one copy for all sessions opened from it.

    Args:
        model: the model, separate from its weights.

    Attributes:
        model: the same.
    """

    __slots__ = ("_weights", "model")

    def __init__(self, model: Detached) -> None:
        device = "cuda" if usable_providers()[0] == CUDA else "cpu"
        self.model = model
        # A session does not own external weights: pass a view, which keeps its value alive.
        self._weights = {
            name: ort.OrtValue.from_dlpack(ort.OrtValue.ortvalue_from_numpy(array, device, 0))
            for name, array in model.weights.items()
            if array.dtype.name in _FLOATING
        }

    def share(self, options: ort.SessionOptions) -> None:
        """Share the weights with a session; weights that its graph optimiser has transformed are copies of its own."""
        for name, value in self._weights.items():
            options.add_initializer(name, value)


Tensor: TypeAlias = np.ndarray | OnDevice
"""Rows in host or device memory."""


def on_host(tensor: Tensor) -> np.ndarray:
    """Return rows in host memory."""
    return tensor.numpy() if isinstance(tensor, OnDevice) else tensor


class Session:
    """One loaded ONNX model; safe to call from several threads.

    Args:
        model: the model's bytes, the path of its file, the model separate from its weights (any size, and the
            least memory), or a placed model.
        name: its name in messages.
        providers: execution providers, the preferred one first; None takes ``usable_providers()``.
        threads: cores that one run may use; None takes ``cpu_quota()``.
        spin_us: microseconds for which an idle thread spins before it sleeps; 0 disables spinning. With
            several sessions in a process, threads that spin for ONNX Runtime's default time take cores from
            each other (measured 0.97 to 1.76 times slower).

    Raises:
        RuntimeFailure: ONNX Runtime cannot load the model.
    """

    def __init__(
        self,
        model: bytes | Path | Detached | Placed,
        *,
        name: str = "model",
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        spin_us: int = 0,
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or cpu_quota()
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin_us else "0")
        if spin_us:
            options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
        _share_memory(options)
        _bound_constants(model, options)
        chosen = list(providers or usable_providers())
        try:
            self._session = ort.InferenceSession(
                _openable(model, options),
                options,
                providers=[_with_options(p) for p in chosen],
            )
        # The only common base of ONNX Runtime's exceptions is Exception.
        except Exception as error:
            raise RuntimeFailure(f"ONNX Runtime cannot open {name}: {_reason(error)}") from error
        self._name = name
        self._placed = model if isinstance(model, Placed) else None  # the weights live as long as the session
        self._output_names = [node.name for node in self._session.get_outputs()]
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = _FATAL_ONLY
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers in force, the preferred one first."""
        return tuple(self._session.get_providers())

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the model once.

        Args:
            feeds: an array for every input, first dimension the batch.
            outputs: which outputs to compute; None computes all of them.

        Raises:
            RuntimeFailure: the runtime cannot run these inputs.
        """
        names = self._output_names if outputs is None else list(outputs)
        return dict(zip(names, self.run_in_order(dict(feeds), names), strict=True))

    def run_in_order(
        self, feeds: dict[str, np.ndarray], outputs: list[str] | None = None
    ) -> list[np.ndarray]:
        """Run the model once, as ``run`` does; return the outputs in their order."""
        try:
            values: list[np.ndarray] = self._session.run(
                self._output_names if outputs is None else outputs, feeds, self._run_options
            )
        except Exception as error:
            raise RuntimeFailure(f"ONNX Runtime cannot run {self._name}: {_reason(error)}") from error
        return values

    def run_on_device(self, feeds: Mapping[str, Tensor], rows: int) -> dict[str, OnDevice]:
        """Run the model once, and leave the outputs on the device.

        Between two sessions on one GPU nothing is copied to the host.

        Args:
            feeds: for every input an array, which is copied to the device, or another session's output there.
            rows: number of rows that are not padding.

        Raises:
            RuntimeFailure: the runtime cannot run these inputs.
        """
        device = "cuda" if self.providers[0] == CUDA else "cpu"
        try:
            binding = self._session.io_binding()
            for name, value in feeds.items():
                if isinstance(value, OnDevice):
                    value.bind(binding, name)
                else:
                    binding.bind_cpu_input(name, np.ascontiguousarray(value))
            for name in self._output_names:
                binding.bind_output(name, device)
            binding.synchronize_inputs()  # page-locked memory may be copied asynchronously
            self._session.run_with_iobinding(binding, self._run_options)
            values = binding.get_outputs()
        except Exception as error:
            raise RuntimeFailure(f"ONNX Runtime cannot run {self._name}: {_reason(error)}") from error
        return {name: OnDevice(value, rows) for name, value in zip(self._output_names, values, strict=True)}


def _openable(model: bytes | Path | Detached | Placed, options: ort.SessionOptions) -> bytes | str:
    """Return the input of ONNX Runtime's session; separate weights are added to the options."""
    if isinstance(model, Placed):
        model.share(options)
        return _openable(model.model, options)
    if isinstance(model, Detached):
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in model.weights.values()]
        options.add_external_initializers(list(model.weights), values)
        return model.model
    return str(model) if isinstance(model, Path) else model


def _share_memory(options: ort.SessionOptions) -> None:
    """Let a session allocate its activations from the process's shared arena, which never shrinks.

    With one arena per session, two sessions of ResNet-18 (on one core and on all) held 689 MiB after batches
    of up to 32 rows. With a shared arena they held 504 MiB at the same speed (ONNX Runtime 1.31).
    """
    limit_tensors()
    options.add_session_config_entry("session.use_env_allocators", "1")


def _bound_constants(model: bytes | Path | Detached | Placed, options: ort.SessionOptions) -> None:
    """Limit the constants that a session computes when it is opened: it keeps them outside the arena."""
    detached = model.model if isinstance(model, Placed) else model
    if isinstance(detached, Detached) and (count := detached.foldable()):
        options.add_session_config_entry(_FOLDING, str(_FOLDED_BYTES // count))


def _with_options(provider: str) -> str | tuple[str, dict[str, str]]:
    # fp32 means fp32: TensorFloat-32 keeps 10 bits of mantissa and would break parity.
    return (
        (CUDA, {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"})
        if provider == CUDA
        else provider
    )


def _has_nvidia_device() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def _opens_on_cuda() -> bool:
    from onnx import TensorProto, helper

    # CUDA's libraries may be in torch's or NVIDIA's wheels, which the loader does not search. Failures are
    # printed, which would corrupt a command's JSON output.
    with redirect_stdout(sys.stderr):
        ort.preload_dlls()
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    with _silenced():
        try:
            session = ort.InferenceSession(model.SerializeToString(), options, providers=[CUDA, CPU])
            session.run(None, {"x": np.ones(1, np.float32)})
        except Exception:
            return False
    return CUDA in session.get_providers()


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence ONNX Runtime's global logger while a failure is expected."""
    ort.set_default_logger_severity(_FATAL_ONLY)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_ERRORS_ONLY)


def _spec(node: "ort.NodeArg") -> TensorSpec:
    dtype = _DTYPES.get(node.type)
    if dtype is None:
        raise RuntimeFailure(f"port {node.name!r}: expected one of {', '.join(_DTYPES)}, got {node.type}")
    return TensorSpec(node.name, dtype, tuple("any" if size is None else size for size in node.shape))


def _reason(error: Exception) -> str:
    """Return an error in one line."""
    if found := _OUT_OF_MEMORY.search(str(error)):
        left, wanted = map(int, found.groups())
        return (
            f"it needs {wanted:,} more bytes of memory, {left:,} are left of the {_arena[0]:,} that the tensors of "
            "this process may take"
        )
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
