"""The network: twelve channels that double twice, and a pool that remembers quarters."""

from collections import OrderedDict

from torch import Tensor, nn

SIDE = 16
"""Rows and columns of its input, in pixels."""

WIDTH = 12
"""Channels that the stem leaves."""

CUTS = ("stem", "block1", "block2", "block3", "pool")
"""Names of the stages, in order; ``head`` follows."""

DIMENSION = 4 * 4 * WIDTH
"""Length of a feature vector: the last block's channels in each quarter of the picture."""


class GlyphNet(nn.Module):
    """A batch-norm CNN for single characters, 89,000 parameters.

    Resolution is kept through the first block: a character that was written in 8 x 8 pixels has
    no detail to lose. Pooling averages each quarter by itself, because in a character it matters
    where a stroke is: features averaged over the whole picture transfer markedly worse.

    Args:
        classes: number of logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(1, WIDTH, 3, padding=1, bias=False), norm=nn.BatchNorm2d(WIDTH), act=nn.ReLU()
            )
        )
        self.block1 = _block(WIDTH, 2 * WIDTH, stride=1)
        self.block2 = _block(2 * WIDTH, 4 * WIDTH, stride=2)
        self.block3 = _block(4 * WIDTH, 4 * WIDTH, stride=2)
        self.pool = nn.Sequential(OrderedDict(quarters=nn.AvgPool2d(SIDE // 8), flat=nn.Flatten()))
        self.head = nn.Linear(DIMENSION, classes)

    def forward(self, value: Tensor) -> Tensor:
        """Return logits, float32 [N, classes], of normalised pictures, float32 [N, 1, 16, 16]."""
        value = self.stem(value)  # [N, 12, 16, 16]
        value = self.block1(value)  # [N, 24, 16, 16]
        value = self.block2(value)  # [N, 48, 8, 8]
        value = self.block3(value)  # [N, 48, 4, 4]
        logits: Tensor = self.head(self.pool(value))
        return logits


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return two convolutions of 3 x 3, the first of which may halve height and width."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            norm1=nn.BatchNorm2d(outputs),
            act1=nn.ReLU(),
            conv2=nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            norm2=nn.BatchNorm2d(outputs),
            act2=nn.ReLU(),
        )
    )
