"""Texts as transformers and sentence-transformers prepare, run and pool them."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from adapters.sources.hf.checkpoint import quiet
from adapters.sources.reference import Given, Reference
from registry.recipe.text import MAX_TOKENS

LOCAL: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""What keeps transformers from the network, and from code in a checkpoint."""

_COUNTED_FROM_PADDING = ("camembert", "mpnet", "roberta", "xlm-roberta")
"""Networks that give the first token the position behind that of padding."""


def positions(config: Any, tokenizer: Any) -> int:
    """Return how many tokens of a text a network can take, as its tokenizer and its positions say.

    A tokenizer without a limit of its own keeps any number of tokens, of which transformers' networks fail on
    those without a position; recipes keep at most 8192.
    """
    places = int(config.max_position_embeddings)
    if config.model_type in _COUNTED_FROM_PADDING:
        places -= (1 if config.model_type == "mpnet" else int(config.pad_token_id)) + 1
    return min(int(tokenizer.model_max_length), places, MAX_TOKENS)


class TransformersReference(Reference):
    """An encoder's tokens, pooled; or a classifier.

    Args:
        path: the checkpoint's folder.
        pooling: ``mean``, ``cls`` or ``max`` of the tokens that the encoder leaves; None for a classifier.
        l2: whether features are scaled to length 1.
    """

    def __init__(self, path: Path, pooling: str | None, *, l2: bool = False) -> None:
        self.libraries = {name: version(name) for name in ("tokenizers", "transformers")}
        self._path = path
        self._pooling = pooling
        self._l2 = l2
        self._config = AutoConfig.from_pretrained(path, **LOCAL)
        self._opened: Any = None

    def files(self) -> Sequence[Path]:
        """Return the files of the checkpoint's folder."""
        return folder_files(self._path)

    def prepare(self, given: Given) -> Mapping[str, np.ndarray]:
        """Tokenize a text or a pair; see :meth:`Reference.prepare`."""
        return {name: values[0] for name, values in self._tokenized(given, "np").items()}

    def run(self, given: Sequence[Given]) -> Mapping[str, np.ndarray]:
        """Run texts through the network; see :meth:`Reference.run`."""
        auto = AutoModelForSequenceClassification if self._pooling is None else AutoModel
        with quiet():
            network: Any = auto.from_pretrained(
                self._path, dtype=torch.float32, use_safetensors=True, **LOCAL
            ).eval()
        with torch.no_grad():
            if self._pooling is None:
                return classified(network, (self._tokenized(each, "pt") for each in given))
            features = [
                pooled(network(**self._tokenized(each, "pt")).last_hidden_state[0].numpy(), self._pooling)
                for each in given
            ]
        rows = np.stack(features)
        return {"features": rows / np.linalg.norm(rows, axis=1, keepdims=True) if self._l2 else rows}

    def _tokenized(self, given: Given, tensors: str) -> dict[str, Any]:
        tokenizer = self._tokenizer
        texts = given if isinstance(given, tuple) else (given,)
        fields = tokenizer(
            *texts,
            truncation=True,
            max_length=positions(self._config, tokenizer),
            return_tensors=tensors,
        )
        # Tokenizers of no class in particular make types for networks that know none.
        typeless = self._config.model_type in ("distilbert", "modernbert", "mpnet")
        names = ("input_ids", "attention_mask", *(() if typeless else ("token_type_ids",)))
        return {name: fields[name] for name in names if name in fields}

    @property
    def _tokenizer(self) -> Any:
        if self._opened is None:
            with quiet():
                self._opened = AutoTokenizer.from_pretrained(self._path, **LOCAL)
        return self._opened


class SentenceReference(Reference):
    """A folder of sentence-transformers, by its own ``encode``.

    Args:
        path: the folder.
        pooling: another pooling than that of the folder, which then comes in the place of all its modules
            behind the transformer; None for its own.
        l2: whether another pooling is scaled to length 1.
    """

    def __init__(self, path: Path, pooling: str | None = None, *, l2: bool = False) -> None:
        self.libraries = {
            name: version(name) for name in ("sentence-transformers", "tokenizers", "transformers")
        }
        self._path = path
        self._pooling = pooling
        self._l2 = l2
        self._opened: Any = None

    def files(self) -> Sequence[Path]:
        """Return the files of the folder and of its modules' folders."""
        return folder_files(self._path)

    def prepare(self, given: Given) -> Mapping[str, np.ndarray]:
        """Tokenize a text or a pair behind the folder's default prompt; see :meth:`Reference.prepare`."""
        model = self._model()
        fields = model.preprocess([given], prompt=model.prompts.get(model.default_prompt_name))
        takes = model[0].model_forward_params
        names = ("input_ids", "attention_mask", "token_type_ids")
        return {name: fields[name][0].numpy() for name in names if name in fields and name in takes}

    def run(self, given: Sequence[Given]) -> Mapping[str, np.ndarray]:
        """Encode texts; see :meth:`Reference.run`."""
        model = self._model()
        self._opened = None
        encoded = [model.encode([each], show_progress_bar=False)[0] for each in given]
        return {"features": np.stack(encoded)}

    def _model(self) -> Any:
        if self._opened is None:
            with quiet():
                self._opened = self._load()
        return self._opened

    def _load(self) -> Any:
        # sentence-transformers is slow to import, and other sources do without.
        from sentence_transformers import SentenceTransformer

        with warnings.catch_warnings():
            # Newer versions have moved them, and older ones know no other place.
            warnings.simplefilter("ignore", DeprecationWarning)
            from sentence_transformers.models import Normalize, Pooling, Transformer

        kwargs = {"dtype": torch.float32, "use_safetensors": True}
        if self._pooling is None:
            model = SentenceTransformer(str(self._path), device="cpu", model_kwargs=kwargs, **LOCAL)
        else:
            first = Transformer.load(str(self._path), model_kwargs=kwargs, **LOCAL)
            modules = [first, Pooling(first.get_embedding_dimension(), self._pooling)]
            model = SentenceTransformer(
                modules=[*modules, Normalize()] if self._l2 else modules, device="cpu", **self._prompts()
            )
        model[0].max_seq_length = positions(model[0].config, model[0].tokenizer)
        return model

    def _prompts(self) -> dict[str, Any]:
        path = self._path / "config_sentence_transformers.json"
        config = json.loads(path.read_text()) if path.is_file() else {}
        return {name: config[name] for name in ("prompts", "default_prompt_name") if name in config}


def folder_files(path: Path) -> list[Path]:
    """Return the files of a checkpoint's folder, and of the folders in it, but for hidden ones."""
    return sorted(
        file
        for pattern in ("*", "*/*")
        for file in path.glob(pattern)
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )


def pooled(tokens: np.ndarray, pooling: str) -> np.ndarray:
    """Pool one text's tokens, float32 [S, D], none of them padding, into [D]."""
    ways: dict[str, Callable[[], np.ndarray]] = {
        "cls": lambda: tokens[0],
        "max": lambda: tokens.max(axis=0),
        "mean": lambda: tokens.mean(axis=0),
    }
    return ways[pooling]()


def classified(network: Any, inputs: Any) -> dict[str, np.ndarray]:
    """Run a classifier of transformers on inputs, one at a time; return ``features`` and ``logits``.

    Features are what the last linear layer that it calls is given.
    """
    given: list[np.ndarray] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, args: given.append(args[0].numpy()))
        for module in network.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    features, logits = [], []
    try:
        for fields in inputs:
            logits.append(network(**fields).logits.numpy())
            features.append(given[-1])
            given.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return {"features": np.concatenate(features), "logits": np.concatenate(logits)}
