"""Triton's server with a python backend, from an environment of its own: ``make peers``.

The package ``nvidia-pytriton`` contains the server and the stub that its python backend runs in. Inputs go up
by Triton's binary tensor extension: a picture as one element of type BYTES, an array as UINT8.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from benchmarks.connection import HOST
from benchmarks.contender import ARRAYS, PICTURES, Contender, complain, write
from benchmarks.peers.peer import stop, wait_until_live
from services.process.server import ROOT, free_port

VENV = ROOT / ".venv-peers"
INPUT, FEATURES, LABEL, SCORE = "input", "features", "label", "score"
INSTANCES = 2
BATCH = 32

_BINARY_SIZE = "binary_data_size"
_PYTHON = "{}.{}".format(*sys.version_info)
_SITE = VENV / "lib" / f"python{_PYTHON}" / "site-packages"
_SERVER = _SITE / "pytriton" / "tritonserver"
_STUB = _SERVER / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub"
_BACKEND = Path(__file__).with_name("triton_backend.py")
_CONFIG = """name: "{name}"
backend: "python"
max_batch_size: {batch}
input [{{ name: "input" data_type: {datatype} dims: [ {dims} ] }}]
output [{outputs}]
instance_group [{{ kind: KIND_CPU count: {instances} }}]
dynamic_batching {{ }}
parameters [{parameters}]
"""
_LABELS = (
    '{ name: "label" data_type: TYPE_INT32 dims: [ 1 ] }, { name: "score" data_type: TYPE_FP32 dims: [ 1 ] }'
)
_FEATURES = '{ name: "features" data_type: TYPE_FP32 dims: [ -1 ] }'
_PARAMETER = '{{ key: "{key}" value: {{ string_value: "{value}" }} }}'


def is_installed() -> bool:
    """Return whether ``make peers`` has been here."""
    return _STUB.exists()


@dataclass(frozen=True, slots=True)
class Model:
    """One of Triton's models.

    Attributes:
        onnx: a file that takes ``pixels``.
        recipe: a file with the recipe that prepares pictures for it.
        shape: of one array: height, width, channels.
        takes_pictures: whether it decodes files by itself; otherwise it takes arrays.
        output: what of the network it gives: ``logits``, of which the best label, or ``features``.
    """

    onnx: Path
    recipe: Path
    shape: tuple[int, int, int]
    takes_pictures: bool
    output: str

    def request(self, name: str, body: bytes) -> bytes:
        """Return a whole HTTP request for one input: a picture file, or an array as ``.npy`` of one row."""
        if self.takes_pictures:
            tensor, datatype, dims = struct.pack("<I", len(body)) + body, "BYTES", [1, 1]
        else:
            tensor, datatype, dims = body[-prod(self.shape) :], "UINT8", [1, *self.shape]
        outputs = [FEATURES] if self.output == FEATURES else [LABEL, SCORE]
        document = {
            "inputs": [
                {
                    "name": INPUT,
                    "shape": dims,
                    "datatype": datatype,
                    "parameters": {_BINARY_SIZE: len(tensor)},
                }
            ],
            # Features go out as arrays do from us, labels as JSON.
            "outputs": [{"name": each, "parameters": {"binary_data": each == FEATURES}} for each in outputs],
        }
        head = json.dumps(document).encode()
        lines = (
            f"POST /v2/models/{name}/infer HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/octet-stream\r\n"
            f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(head) + len(tensor)}\r\n\r\n"
        )
        return lines.encode() + head + tensor

    def write(self, repository: Path, name: str) -> None:
        """Write it into a repository of Triton's."""
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        shutil.copy(_BACKEND, folder / "model.py")
        (folder / "registry").symlink_to(ROOT / "registry")
        values = {
            "onnx": self.onnx,
            "recipe": self.recipe,
            "takes": PICTURES if self.takes_pictures else ARRAYS,
            "output": self.output,
        }
        config = _CONFIG.format(
            name=name,
            batch=BATCH,
            datatype="TYPE_STRING" if self.takes_pictures else "TYPE_UINT8",
            dims="1" if self.takes_pictures else ", ".join(map(str, self.shape)),
            outputs=_FEATURES if self.output == FEATURES else _LABELS,
            instances=INSTANCES,
            parameters=", ".join(_PARAMETER.format(key=key, value=value) for key, value in values.items()),
        )
        (folder.parent / "config.pbtxt").write_text(config)


@contextmanager
def start(
    name: str, models: Mapping[str, Model], folder: Path, bodies: Mapping[str, Sequence[bytes]]
) -> Iterator[Contender]:
    """Run Triton for as long as the block takes.

    Args:
        name: what it is called in tables.
        models: for each kind of input the model that takes it.
        folder: an empty folder for its models, its requests and its log.
        bodies: for each kind of input the distinct inputs.

    Raises:
        RuntimeError: it did not come up within a minute.
    """
    folder.mkdir(parents=True)
    for kind, model in models.items():
        model.write(folder / "models", kind)
    backends = shutil.copytree(_SERVER / "backends", folder / "backends")
    shutil.copy(_STUB, backends / "python")
    port = free_port()
    requests = {
        kind: write(folder / kind, [models[kind].request(kind, body) for body in several])
        for kind, several in bodies.items()
    }
    command = [_SERVER / "bin" / "tritonserver", "--model-repository", folder / "models"]
    command += ["--backend-directory", backends, "--http-address", HOST, "--http-port", str(port)]
    command += ["--allow-grpc", "false", "--allow-metrics", "false", "--http-thread-count", "8"]
    libraries = (_SITE / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        # The stub looks for them beside where the package has it.
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            env=environment,
            cwd=_SITE,  # the stub imports from where it is, and takes no PYTHONPATH
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until_live(name, process, port, "/v2/health/ready")
            yield Contender(name, port, process.pid, requests, _score)
        except Exception:
            complain(log.name)
            raise
        finally:
            stop(process)


def _score(document: Any) -> float:
    outputs = {output["name"]: output["data"] for output in document["outputs"]}
    return float(outputs["score"][0])
