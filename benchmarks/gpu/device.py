"""The device: whether there is one, what it is, and what is held on it."""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.machine import describe as describe_machine
from registry.runtime import CUDA, OnDevice, usable_providers

_LIBRARIES = ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so")
_GPU_LIBRARIES = ("onnxruntime-gpu", "nvidia-cudnn-cu13", "nvidia-cuda-runtime", "torch")


def hide() -> None:
    """Hide every GPU from this process; to be called before a session is opened on one."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    usable_providers.cache_clear()


def number_as_nvidia_smi() -> None:
    """Let CUDA count devices as nvidia-smi does, not the fastest first."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def on_gpu() -> bool:
    """Say whether sessions get a GPU."""
    return usable_providers()[0] == CUDA


def obstacle() -> str:
    """Return why no session gets a GPU, as far as can be told, and what to do."""
    if CUDA not in ort.get_available_providers():
        return "this build of ONNX Runtime has no CUDA provider; install onnxruntime-gpu"
    if not asked("driver_version"):
        return "no driver answers nvidia-smi; a machine or container with an NVIDIA GPU is needed"
    folder = Path(ort.__file__).parent / "capi"
    with contextlib.redirect_stdout(sys.stderr):
        ort.preload_dlls()
    try:
        for name in _LIBRARIES:
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return f"a library is missing ({error}); pip install 'onnxruntime-gpu[cuda,cudnn]'"
    return "its libraries load, and yet no session opens: is the driver as new as their CUDA?"


def describe() -> Mapping[str, object]:
    """Return what the machine and its device are, as JSON values."""
    return {
        **describe_machine(),
        "device": asked("name") if on_gpu() else None,
        "driver": asked("driver_version") if on_gpu() else None,
        "device_mib": asked("memory.total") if on_gpu() else None,
        "available": ort.get_available_providers(),
        "usable": list(usable_providers()),
        "libraries": {name: found for name in _GPU_LIBRARIES if (found := _version(name))},
    }


def held_mib() -> int | None:
    """Return MiB of the device that are in use, by whomever; None where nobody can tell."""
    text = asked("memory.used") if on_gpu() else None
    return int(text) if text and text.isdigit() else None


def asked(what: str) -> str | None:
    """Return what nvidia-smi says of the first device that this process may use; None where it says nothing."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    command = ["nvidia-smi", f"--id={visible}", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def lying_there(array: np.ndarray) -> OnDevice:
    """Return a copy of rows that lies where sessions run."""
    where = "cuda" if on_gpu() else "cpu"
    return OnDevice(ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), where, 0), len(array))


def placed(model: bytes, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return how many nodes of a model really run on each provider, copies between them (Memcpy) apart."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="cultivar-profile-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(model, options, providers=list(usable_providers()))
        session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = {
        event["name"]: "Memcpy"
        if event["args"]["op_name"].startswith("Memcpy")
        else event["args"]["provider"]
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    return dict(Counter(nodes.values()))


def _version(name: str) -> str | None:
    try:
        return library_version(name)
    except PackageNotFoundError:
        return None
