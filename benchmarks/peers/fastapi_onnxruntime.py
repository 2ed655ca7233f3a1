"""The model in a FastAPI application on uvicorn, as tutorials write one: a ``def`` endpoint, which runs in a thread.

As they write it, a session takes every core for each run, and forty threads run at once. With
``PEER_TUNED`` set, a run takes one core, idle threads do not spin, and there are as many threads
as cores.
"""

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import numpy as np
import onnxruntime as ort
from fastapi import FastAPI, UploadFile
from PIL import Image

from registry.recipe import ImageRecipe, parse
from registry.runtime import cpu_quota

TUNED = bool(os.environ.get("PEER_TUNED"))


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Bound the threads where that was asked for."""
    if TUNED:
        anyio.to_thread.current_default_thread_limiter().total_tokens = cpu_quota()
    yield


def open_session() -> ort.InferenceSession:
    """Open the model."""
    options = ort.SessionOptions()
    if TUNED:
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
    return ort.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])


def open_recipe() -> ImageRecipe:
    """Read how pictures are prepared."""
    recipe = parse(Path(os.environ["PEER_RECIPE"]).read_bytes())
    assert isinstance(recipe, ImageRecipe)
    return recipe


app = FastAPI(lifespan=lifespan)
session = open_session()
recipe = open_recipe()


@app.post("/classify")
def classify(picture: UploadFile) -> dict[str, float]:
    """Return the best label's number and score for a picture."""
    with Image.open(picture.file) as image:
        return best(recipe.convert(image)[None])


@app.post("/classify_arrays")
def classify_arrays(array: UploadFile) -> dict[str, float]:
    """Return the best label's number and score for a file of pixels, uint8 [1, height, width, 3]."""
    return best(np.load(io.BytesIO(array.file.read()), allow_pickle=False))


def best(pixels: np.ndarray) -> dict[str, float]:
    """Run the model on one row."""
    (logits,) = session.run(["logits"], {"pixels": pixels})
    scores = np.exp(logits[0] - logits[0].max())
    scores /= scores.sum()
    return {"label": int(scores.argmax()), "score": float(scores.max())}


@app.get("/livez")
def livez() -> dict[str, bool]:
    """Say that it answers."""
    return {"alive": True}
