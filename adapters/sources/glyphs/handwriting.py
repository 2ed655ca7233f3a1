"""Makes printed letters look like small, blurry handwriting.

What a hand, a pen and a poor scanner do to a shape, one after the other, every amount drawn anew
for each picture: the hand slants, turns, stretches and wobbles it; the pen makes it bolder or
finer; the scanner sees few pixels, most often 8 x 8 (which is how much of a character the classic
sets of handwriting kept), adds noise, and has no even light.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adapters.sources.glyphs.network import SIDE

_PAGE = 32
"""Rows and columns that a letter is written in before it is scanned."""

_SCANS = (7, 9, 10, 12, 16)
"""Rows and columns that a scanner sees where they are not 8."""


@dataclass(frozen=True, slots=True)
class Hand:
    """How much is done to a letter; ranges are symmetric unless both ends are given.

    Attributes:
        turn: radians.
        slant: sideways shift for each unit of height.
        width: factors, natural logarithms of the least and the most.
        height: factors, natural logarithms of the least and the most.
        shift: in halves of the page.
        wobble: standard deviation of the largest displacements, in halves of the page.
        threshold: share of the strongest ink at which the pen's edge is put: the boldest and the finest.
        coarse: share of letters scanned at 8 x 8; the others are at another low resolution.
        noise: largest standard deviation.
    """

    turn: float = 0.3
    slant: float = 0.35
    width: tuple[float, float] = (-0.35, 0.3)
    height: tuple[float, float] = (0.0, 0.25)
    shift: float = 0.08
    wobble: float = 0.075
    threshold: tuple[float, float] = (0.08, 0.5)
    coarse: float = 2 / 3
    noise: float = 0.05


def write(pictures: Tensor, generator: Generator, hand: Hand | None = None) -> Tensor:
    """Write letters by hand, scan them, and print the scans at the network's size.

    Args:
        pictures: renders, uint8 [N, 48, 48], ink 255 on 0.
        generator: the source of all randomness.
        hand: how much of everything; the default is what the bundled weights learnt from.

    Returns:
        Pixels, uint8 [N, 16, 16, 1]: dark ink on light paper, as a recipe gives them.
    """
    hand = hand or Hand()
    ink = _pen(_draw(pictures, generator, hand), generator, hand)
    scans = _scan(ink, generator, hand)
    darkness = _uniform(len(scans), (0.7, 1.0), generator)
    pixels = 255 * (1 - scans.clamp(0, 1) * darkness)
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1)


def _uniform(count: int, ends: tuple[float, float], generator: Generator) -> Tensor:
    """Draw numbers between two ends, float32 [count, 1, 1, 1]."""
    low, high = ends
    return (torch.rand(count, generator=generator) * (high - low) + low).reshape(-1, 1, 1, 1)


def _draw(pictures: Tensor, generator: Generator, hand: Hand) -> Tensor:
    """Turn, slant, stretch, shift and wobble renders into ink, float32 [N, 1, 32, 32], 0 to 1."""
    count = len(pictures)

    def draw(ends: tuple[float, float]) -> Tensor:
        return _uniform(count, ends, generator).flatten()

    turn, slant = draw((-hand.turn, hand.turn)), draw((-hand.slant, hand.slant))
    across, down = torch.exp(draw(hand.width)), torch.exp(draw(hand.height))
    shifts = [draw((-hand.shift, hand.shift)) for _ in range(2)]
    cosine, sine = torch.cos(turn), torch.sin(turn)
    rows = (
        torch.stack([cosine / across, (slant * cosine - sine) / across, shifts[0]], 1),
        torch.stack([sine / down, (cosine + slant * sine) / down, shifts[1]], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), [count, 1, _PAGE, _PAGE], align_corners=False)
    amount = _uniform(count, (0, hand.wobble), generator)
    wobble = torch.randn(count, 2, 5, 5, generator=generator) * amount
    smooth = F.interpolate(wobble, size=_PAGE, mode="bicubic", align_corners=True)
    ink = pictures.float().div(255).unsqueeze(1)
    return F.grid_sample(ink, grid + smooth.permute(0, 2, 3, 1), align_corners=False)


def _pen(ink: Tensor, generator: Generator, hand: Hand) -> Tensor:
    """Make strokes bolder or finer: blur them, and put the edge at another level of ink."""
    count = len(ink)
    soft = _blur(ink, _uniform(count, (0.5, 1.4), generator).flatten())
    soft = soft / soft.amax((1, 2, 3), keepdim=True).clamp_min(0.2)
    edge = _uniform(count, hand.threshold, generator)
    steepness = _uniform(count, (8, 30), generator)
    paper = torch.sigmoid(-edge * steepness)
    return (torch.sigmoid((soft - edge) * steepness) - paper) / (1 - paper)


def _blur(pictures: Tensor, deviations: Tensor) -> Tensor:
    """Blur each picture, float32 [N, 1, H, W], by a Gaussian of its own deviation in pixels, float32 [N]."""
    count, _, height, width = pictures.shape
    offsets = torch.arange(-4.0, 5.0)
    kernels = torch.exp(-offsets.square() / (2 * deviations[:, None].square()))
    kernels = kernels / kernels.sum(1, keepdim=True)
    # Pictures stand as the channels of one, so that each meets its own kernel in one convolution.
    flat = F.pad(pictures.reshape(1, count, height, width), (4, 4, 4, 4))
    flat = F.conv2d(flat, kernels.reshape(count, 1, 9, 1), groups=count)
    flat = F.conv2d(flat, kernels.reshape(count, 1, 1, 9), groups=count)
    return flat.reshape(count, 1, height, width)


def _scan(ink: Tensor, generator: Generator, hand: Hand) -> Tensor:
    """See ink, float32 [N, 1, 32, 32], in few pixels, noisily; bring it to the network's size."""
    count = len(ink)
    lot = torch.rand(count, generator=generator)
    others = torch.tensor(_SCANS)[torch.randint(len(_SCANS), (count,), generator=generator)]
    sides = torch.where(lot < hand.coarse, torch.tensor(8), others)
    light = torch.exp(_uniform(count, (-0.4, 0.4), generator))
    noise = _uniform(count, (0, hand.noise), generator)
    found = torch.empty(count, 1, SIDE, SIDE)
    for side in sorted(set(sides.tolist())):
        chosen = sides == side
        seen = F.adaptive_avg_pool2d(ink[chosen], side).clamp(0, 1) ** light[chosen]
        seen = (seen + torch.randn(seen.shape, generator=generator) * noise[chosen]).clamp(0, 1)
        found[chosen] = F.interpolate(seen, size=SIDE, mode="bilinear", align_corners=False, antialias=True)
    return found
