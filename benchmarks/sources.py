"""Every source answers as its provider's own code does: ``python -m benchmarks.sources``.

All of torchvision's classifiers, 60 of timm's architectures, every ``hf:`` family of texts and pictures at the size of
its default configuration, and word vectors, each with random weights in a file as a user has them, are verified. Every
kind of checkpoint that cannot be followed has to be refused by name, and so has a network that follows rounding.

Each source is verified in a process of its own, which gives its memory back at the end. Seconds hold no imports.
Results are kept in a JSON file; what is in there already is not measured again.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from adapters.sources.agreement import verify
from adapters.sources.hf.families import FAMILIES
from adapters.sources.hf.vision import PICTURES
from adapters.sources.providers import find
from benchmarks.machine import describe
from benchmarks.table import table
from registry.errors import CultivarError

TIMM = 60
ROUNDING, INSTEAD = "maxvit_rmlp_base_rw_384", "maxvit_rmlp_small_rw_224"
"""One of the 60 that has to be refused, and who stands in for it. With random weights its features follow rounding: two
ways to normalise one picture differ by 1.2e-7, the features then by 23 % in float32, and by 1.5e-10 in float64."""
WORDS = 5000
LIMIT_SECONDS = 1200


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one source.

    Attributes:
        provider: ``torchvision``, ``timm``, ``hf``, ``vectors`` or ``refused``.
        model: its name there, or the kind of checkpoint that is refused.
        outcome: ``verified``, ``refused``, ``no reference`` or ``failed``.
        message: why it was refused, or failed.
        seconds: that verification took, loading included.
        runs: probes that were run through both networks, of 16.
        worst: largest difference of an output as a share of what is allowed.
        gigabytes: most memory that the process held.
    """

    provider: str
    model: str
    outcome: str
    message: str = ""
    seconds: float = 0.0
    runs: int = 0
    worst: float = 0.0
    gigabytes: float = 0.0

    @property
    def expected(self) -> bool:
        """Whether it came out as it has to."""
        refused = self.provider == "refused" or self.model == ROUNDING
        return self.outcome == ("refused" if refused else "verified")


def torchvision_models() -> list[str]:
    """Return the names of torchvision's classifiers."""
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def timm_models() -> list[str]:
    """Return 60 of the architectures that can be cut, evenly out of all by name, and one that has to be refused."""
    from adapters.sources.timm import TimmProvider

    names = sorted({spec.removeprefix("timm:").partition(".")[0] for spec in TimmProvider().specs()})
    evenly = [names[int(place)] for place in np.linspace(0, len(names) - 1, TIMM)]
    return [INSTEAD if name == ROUNDING else name for name in evenly] + [ROUNDING]


def write_torchvision(model: str, folder: Path) -> str:
    """Save a network of random weights; return its spec."""
    write_own("torchvision", model, folder / "own.safetensors")
    return f"torchvision:{model}@{folder / 'own.safetensors'}"


def write_timm(model: str, folder: Path) -> str:
    """Save a network of random weights; return its spec."""
    write_own("timm", model, folder / "own.safetensors")
    return f"timm:{model}@{folder / 'own.safetensors'}"


def write_own(provider: str, model: str, file: Path) -> None:
    """Save a network with the weights that its provider draws for it.

    What it answers may be tiny: differences are held against the largest answer, so that is no matter. Networks
    whose batch statistics were taken from data before they learnt anything are another thing: they answer to
    rounding as to anything else (Yang et al., "A Mean Field Theory of Batch Normalization", 2019).
    """
    import timm
    import torchvision

    from adapters.sources.torchvision import build

    torch.manual_seed(0)
    if provider == "torchvision":
        network = build(model, torchvision.models.get_model_weights(model).DEFAULT)
    else:
        network = timm.create_model(model, pretrained=False)
    save_file(_tensors(network), file)


def write_hf(model: str, folder: Path) -> str:
    """Save a network of random weights with a tokenizer or an image processor; return its spec.

    ``KIND`` is an encoder, ``KIND, labelled`` a classifier of three labels.
    """
    import transformers

    kind, _, labelled = model.partition(", ")
    labels: dict[str, Any] = {"id2label": {0: "a", 1: "b", 2: "c"}} if labelled else {}
    config = transformers.AutoConfig.for_model(kind, **labels)
    if kind in FAMILIES:
        auto: Any = transformers.AutoModelForSequenceClassification if labelled else transformers.AutoModel
        write_tokenizer(folder, config)
    else:
        auto = transformers.AutoModelForImageClassification if labelled else transformers.AutoModel
        if kind == "deit" and labelled:
            # There are two, and the other one has a second head for its teacher.
            config.architectures = ["DeiTForImageClassification"]
        settings: dict[str, Any] = {
            "image_processor_type": "ViTImageProcessor",
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        }
        if kind in ("convnext", "resnet"):
            settings |= {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    auto.from_config(config).save_pretrained(folder)
    return f"hf:{folder}"


def write_tokenizer(folder: Path, config: Any) -> None:
    """Save a tokenizer of made-up words, whose special tokens are those of a configuration."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    ids = {"pad": config.pad_token_id or 0, "cls": 101, "sep": 102, "unk": 100}
    vocabulary = {f"w{number}": number for number in range(min(WORDS, config.vocab_size))}
    for name, number in ids.items():
        vocabulary.pop(f"w{number}", None)
        vocabulary[f"[{name.upper()}]"] = number
    built = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    built.normalizer = normalizers.Lowercase()
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["cls"]), ("[SEP]", ids["sep"])],
    )
    fast: Any = transformers.PreTrainedTokenizerFast
    types = ["token_type_ids"] if config.model_type in ("bert", "electra") else []
    fast(
        tokenizer_object=built,
        model_input_names=["input_ids", *types, "attention_mask"],
        **{f"{name}_token": f"[{name.upper()}]" for name in ids},
    ).save_pretrained(folder)


def write_vectors(model: str, folder: Path) -> str:
    """Write word vectors in one of the two formats; return their spec."""
    values = np.random.default_rng(0).normal(size=(WORDS, 100)).astype("<f4")
    file = folder / "words.vec"
    with file.open("wb") as stream:
        stream.write(f"{WORDS} 100\n".encode())
        for number, row in enumerate(values):
            body = row.tobytes() if model == "binary" else " ".join(f"{x:.6f}" for x in row).encode()
            stream.write(f"w{number} ".encode() + body + b"\n")
    return f"vectors:{file}"


def _tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}


def _config(**values: object) -> Callable[[Path], None]:
    return lambda folder: _merge(folder / "config.json", values)


def _merge(file: Path, values: Mapping[str, object]) -> None:
    old = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(old | dict(values)))


def _with_weight(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file(load_file(file) | {name: torch.ones(3)}, file, {"format": "pt"})

    return write


def _without_weight(part: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        file = folder / "model.safetensors"
        kept = {name: tensor for name, tensor in load_file(file).items() if part not in name}
        save_file(kept, file, {"format": "pt"})

    return write


def _modules(*kinds: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        modules = [
            {"idx": n, "name": str(n), "path": str(n) if n else "", "type": k} for n, k in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(modules))

    return write


_SENTENCE = "sentence_transformers.models."

REFUSED: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "code of its own": (_config(auto_map={"AutoModel": "own.Model"}), "auto_map"),
    "decoder": (_config(is_decoder=True), "is a decoder"),
    "cross attention": (_config(add_cross_attention=True), "is a decoder"),
    "relative positions": (_config(position_embedding_type="relative_key_query"), "position_embedding_type"),
    "quantized": (_config(quantization_config={"bits": 4}), "is quantized"),
    "adapter": (lambda folder: _merge(folder / "adapter_config.json", {"r": 8}), "is an adapter"),
    "tokens without a vector": (_config(vocab_size=1000), "tokens without a vector"),
    "weights too many": (_with_weight("encoder.layer.0.distance_embedding.weight"), "has no use"),
    "weights missing": (_without_weight("layer.1.output.dense"), "are missing"),
    "a module of its own": (_modules("own_modeling.Transformer"), "modules of its own"),
    "a dense layer above the pooling": (
        _modules(f"{_SENTENCE}Transformer", f"{_SENTENCE}Pooling", f"{_SENTENCE}Dense"),
        "goes through Transformer, Pooling, Dense",
    ),
}
"""Kinds of checkpoints that are refused: what makes a sound one such, and part of the message."""


def write_refused(model: str, folder: Path) -> str:
    """Save a small BERT and make it one that is refused; return its spec."""
    import transformers

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.AutoConfig.for_model("bert", **size)
    auto: Any = transformers.AutoModel
    auto.from_config(config).save_pretrained(folder)
    write_tokenizer(folder, config)
    REFUSED[model][0](folder)
    return f"hf:{folder}"


WRITERS: Mapping[str, Callable[[str, Path], str]] = {
    "refused": write_refused,
    "vectors": write_vectors,
    "hf": write_hf,
    "torchvision": write_torchvision,
    "timm": write_timm,
}


def models(provider: str) -> Sequence[str]:
    """Return what is verified, or refused, of a provider."""
    if provider == "torchvision":
        return torchvision_models()
    if provider == "timm":
        return timm_models()
    if provider == "hf":
        return [f"{kind}{tail}" for kind in (*FAMILIES, *PICTURES) for tail in ("", ", labelled")]
    return ["text", "binary"] if provider == "vectors" else list(REFUSED)


def measure(provider: str, model: str) -> Result:
    """Write a source of random weights and verify it, in this process."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        spec = WRITERS[provider](model, Path(folder))
        start = time.perf_counter()
        outcome, message, runs, worst = "verified", "", 0, 0.0
        try:
            source = find(spec)
            reference = source.reference()
            if reference is None:
                outcome = "no reference"
            else:
                found = verify(source, reference)
                runs = found.runs
                worst = max(
                    found.max_abs_difference[name] / allowed if allowed else 0.0
                    for name, allowed in found.tolerance.items()
                )
        except CultivarError as error:
            outcome, message = "refused", str(error).replace(folder, "FOLDER")
            if provider == "refused" and REFUSED[model][1] not in message:
                outcome = "failed"
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    return Result(provider, model, outcome, message, round(seconds, 2), runs, worst, round(peak, 2))


def measured_apart(provider: str, model: str) -> Result:
    """Measure in a process of its own, forked from this one, whose imports it keeps."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, provider, model))
    process.start()
    theirs.close()
    try:
        if ours.poll(LIMIT_SECONDS):
            return cast("Result", ours.recv())
        return Result(provider, model, "failed", f"took over {LIMIT_SECONDS} s")
    except EOFError:
        process.join()
        return Result(provider, model, "failed", f"the process ended with status {process.exitcode}")
    finally:
        process.kill()
        process.join()


def _send(connection: Connection, provider: str, model: str) -> None:
    try:
        result = measure(provider, model)
    except Exception as error:
        result = Result(provider, model, "failed", repr(error))
    connection.send(result)


def summary(results: Sequence[Result]) -> str:
    """Return tables: of each provider how many came out as they have to, and what did not."""
    rows = {}
    for provider in WRITERS:
        own = [each for each in results if each.provider == provider]
        if own:
            seconds = sorted(each.seconds for each in own)
            rows[provider] = [
                f"{sum(each.expected for each in own)} of {len(own)}",
                f"{seconds[len(seconds) // 2]:.1f}",
                f"{seconds[-1]:.1f}",
                f"{min(each.runs for each in own)}",
                f"{max(each.worst for each in own):.3f}",
                f"{max(each.gigabytes for each in own):.1f}",
            ]
    columns = ["as expected", "seconds, median", "most", "fewest runs", "difference / allowed", "GB"]
    others = [
        f"- {each.provider} {each.model}: {each.outcome}. {each.message}"
        for each in results
        if not each.expected
    ]
    return "\n".join([table("provider", columns, rows), *(["", *others] if others else [])])


def _import_providers() -> None:
    """Import what every process would have to import."""
    for module in ("adapters.sources.hf", "adapters.sources.timm", "timm", "torchvision", "transformers"):
        import_module(module)


def main() -> int:
    """Verify what is asked for; return 1 unless all came out as they have to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--provider", action="append", choices=list(WRITERS), help="only this one; repeatable"
    )
    parser.add_argument("--models", help="only those whose names hold this text")
    parser.add_argument("--json", type=Path, help="keep results in this file, and go on where it ends")
    given = parser.parse_args()
    _import_providers()
    kept = json.loads(given.json.read_text())["results"] if given.json and given.json.is_file() else []
    results = [Result(**each) for each in kept]
    known = {(each.provider, each.model) for each in results}
    for provider in given.provider or WRITERS:
        for model in models(provider):
            if (provider, model) in known or (given.models and given.models not in model):
                continue
            result = measured_apart(provider, model)
            print(
                f"{provider} {model}: {result.outcome}, {result.seconds:.1f} s {result.message}",
                file=sys.stderr,
            )
            results.append(result)
            if given.json:
                document = {"machine": describe(), "results": [asdict(each) for each in results]}
                given.json.write_text(json.dumps(document, indent=1))
    print(summary(results))
    return 0 if all(each.expected for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
