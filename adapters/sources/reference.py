"""The interface of a reference: a source as run by its provider's own code.

Parity compares an export with our own stages, so it cannot find errors in both. A reference can: it uses only
the provider's code, and :func:`adapters.sources.agreement.verify` compares the source's recipe and stages
with it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

Given: TypeAlias = "Image.Image | str | tuple[str, str]"
"""What a provider's code is given: a picture, RGB, 8 bits, upright; a text; or a pair of texts.

Reading a file is the caller's work with every provider (torchvision, timm and transformers take pictures
that are open already), so it is not compared here: the recipe reads the file, the reference gets the
picture that the file was made from.
"""


class Reference(ABC):
    """A source as its provider's own code runs it.

    An implementation calls the provider's public code for everything: its transforms, processors or
    tokenizers, its way of loading weights, its network's own ``forward``. It never uses the source's
    recipe, normalisation, cuts or stages, nor our reading of the checkpoint: what is wrong there would be
    wrong on both sides, and unseen. Nothing is downloaded, and no code out of a checkpoint is run. The one
    exception is a file of one's own for torchvision or timm: no provider reads what may stand around its weights,
    so our reading fills the provider's network.

    :meth:`Source.reference` returns one, made of what names the model and its weights (a folder, a name, a
    file). It is cheap to make: networks are loaded in ``run`` and let go at its end, because the source's
    own network was in memory just before.

    Attributes:
        libraries: version of each library whose code decides the result, by the name it is installed
            under, such as ``{"transformers": "5.23.0", "tokenizers": "0.23.3"}``. A source is verified anew
            when one of them changes.
        levels: grey levels out of 255 by which a pixel may differ: 0 where the provider scales pictures with
            Pillow, as recipes do; 1 where it scales tensors, which round otherwise.
    """

    libraries: Mapping[str, str]
    levels: int = 0

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Return every file that the provider reads: weights, configuration, vocabulary.

        A source is verified anew when the bytes or the name of one of them change. Files that are not
        there are left out.
        """

    @abstractmethod
    def prepare(self, given: Given) -> Mapping[str, np.ndarray]:
        """Return one input as prepared by the provider's own preprocessing.

        Of a picture ``{"pixels": float32 [C, H, W]}``, normalised: the very tensor that the network gets,
        without the batch dimension. The caller undoes the normalisation *by the source's constants* and
        compares grey levels, so constants that differ are seen as levels that differ.

        Of a text or a pair ``{"input_ids": int64 [S], "attention_mask": int64 [S]}`` and, where the
        provider's network takes them, ``"token_type_ids": int64 [S]``: truncated as the provider does, with
        its special tokens, without padding.
        """

    @abstractmethod
    def run(self, given: Sequence[Given]) -> Mapping[str, np.ndarray]:
        """Return the outputs of the provider's own network with its own preprocessing.

        The network is loaded by the provider's own code with the weights that the source names, in
        float32, eval mode, on the CPU, and run on one input at a time, so that no padding is needed.

        Returns:
            ``features``: float32 [N, D], what the network hands to its output layer; for texts the pooled
            vector. Where the source has labels also ``logits``, float32 [N, labels], raw.

        Raises:
            CultivarError: the files are not as expected. Whatever else the provider's code raises passes
                through; the caller reports it together with the input.
        """
