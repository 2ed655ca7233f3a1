"""Synthetic photographs: pictures with a photograph's spectrum, and so with its weight as a JPEG."""

import io

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375
QUALITY = 90
_FALLOFF = 1.1
"""Amplitude falls with frequency to this power; natural pictures have about 1."""
_CONTRAST = 55.0
_COLOUR = 0.25
"""Contrast of a channel's own pattern beside the common one."""


def photograph(seed: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """Return a JPEG file of quality 90 with random content; equal seeds, equal bytes."""
    random = np.random.default_rng(seed)
    grey = _pattern(random, width, height)
    channels = [grey + _COLOUR * _pattern(random, width, height) for _ in range(3)]
    pixels = np.clip(127.5 + _CONTRAST * np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def _pattern(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return float64 [height, width], mean 0, deviation 1, with a spectrum that falls off."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(down, across)
    frequency[0, 0] = np.inf
    phases = np.exp(2j * np.pi * random.random(frequency.shape))
    pattern = np.fft.irfft2(phases / frequency**_FALLOFF, s=(height, width))
    return np.asarray(pattern / pattern.std())
