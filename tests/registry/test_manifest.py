"""A manifest is its canonical bytes, and nothing else is read as one."""

import json
from dataclasses import replace
from typing import Any

import pytest

from registry.digests import Digest, canonical_json
from registry.errors import InvalidManifest
from registry.manifest import EMBEDDING, Head, Manifest, Segment, SourceVerification, Wire
from tests.builders import tiny


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return tiny("letters/digits").manifest


def changed(manifest: Manifest, **keys: Any) -> bytes:
    return canonical_json(json.loads(manifest.to_bytes()) | keys)


def test_bytes_read_back_to_an_equal_manifest(manifest: Manifest) -> None:
    again = Manifest.parse(manifest.to_bytes())
    assert again == manifest
    assert again.digest == manifest.digest == Digest.of(manifest.to_bytes())


def test_remarks_on_the_data_are_part_of_it_where_there_are_any(manifest: Manifest) -> None:
    noted = replace(manifest, remarks={"greys of 32 bits read as 0 to 255, by their values": 3})
    assert Manifest.parse(noted.to_bytes()) == noted and noted.digest != manifest.digest
    assert b"remarks" not in manifest.to_bytes()
    with pytest.raises(InvalidManifest):
        Manifest.parse(changed(manifest, remarks={}))


def test_nothing_of_when_where_or_who_is_in_it(manifest: Manifest) -> None:
    names = set(json.loads(manifest.to_bytes()))
    assert not names & {
        "created_at",
        "at",
        "seconds",
        "duration",
        "host",
        "actor",
        "number",
        "version",
        "stage",
    }


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{", b'{"format":1}', b"\xff\xfe", b'"' + b"[" * 100_000, b"{}" * 2]
)
def test_other_bytes_are_no_manifest(data: bytes) -> None:
    with pytest.raises(InvalidManifest):
        Manifest.parse(data)


def test_the_same_in_another_form_is_refused(manifest: Manifest) -> None:
    with pytest.raises(InvalidManifest, match="canonical"):
        Manifest.parse(json.dumps(json.loads(manifest.to_bytes()), indent=1).encode())


@pytest.mark.parametrize(
    "keys",
    [
        {"format": 2},
        {"format": True},
        {"extra": 1},
        {"seed": "1"},
        {"transfer": "digits"},
        {"recipe": "sha256:abc"},
        {"segments": []},
        {"segments": [{}]},
        {"features": "nobody:features"},
        {"space": None},
        {"heads": [{"name": "digits", "kind": "guess", "logits": "head:logits", "labels": ["a"]}]},
        {"parts": {"train": {"count": "3", "items": "sha256:" + "0" * 64}}},
    ],
    ids=lambda keys: str(keys)[:40],
)
def test_a_key_that_is_wrong_is_refused(manifest: Manifest, keys: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        Manifest.parse(changed(manifest, **keys))


def test_a_missing_key_is_named(manifest: Manifest) -> None:
    value = json.loads(manifest.to_bytes())
    del value["parity"]
    with pytest.raises(InvalidManifest, match="'parity'"):
        Manifest.parse(canonical_json(value))


def test_wires_lead_upwards_only(manifest: Manifest) -> None:
    with pytest.raises(InvalidManifest, match="nothing before it provides"):
        replace(manifest, segments=tuple(reversed(manifest.segments)))


def test_a_segment_stands_once_in_the_graph(manifest: Manifest) -> None:
    with pytest.raises(InvalidManifest, match="occurs twice"):
        replace(manifest, segments=(*manifest.segments, manifest.segments[-1]))


def test_a_version_without_head_is_an_embedding(manifest: Manifest) -> None:
    trunk = tuple(segment for segment in manifest.segments if segment.role != "head")
    extractor = replace(manifest, segments=trunk, heads=())
    assert extractor.kind == EMBEDDING
    assert list(extractor.outputs) == ["features"]


def test_several_heads_have_an_output_each(manifest: Manifest) -> None:
    second = replace(manifest.heads[0], name="parity", labels=("even", "odd", "neither"))
    both = replace(manifest, heads=(*manifest.heads, second))
    assert list(both.outputs) == ["features", f"logits.{manifest.heads[0].name}", "logits.parity"]


def test_every_stored_byte_is_referred_to(manifest: Manifest) -> None:
    kinds = [kind for kind, _ in manifest.blobs()]
    assert kinds.count("segment") == len(manifest.segments)
    assert "recipe" in kinds


def test_evidence_is_named_where_there_is_some_and_absent_where_there_is_none(manifest: Manifest) -> None:
    assert "evidence" not in json.loads(manifest.to_bytes())
    shown = replace(manifest, evidence=Digest.of(b"shown"))
    assert Manifest.parse(shown.to_bytes()) == shown
    assert ("evidence", Digest.of(b"shown")) in shown.blobs()
    with pytest.raises(InvalidManifest, match="evidence"):
        Manifest.parse(changed(manifest, evidence=None))


def test_a_sources_verification_is_there_where_there_is_some_and_absent_where_there_is_none(
    manifest: Manifest,
) -> None:
    assert "verification" not in manifest.origin.to_json()
    found = SourceVerification({"timm": "1.0"}, 16, 4, {"pixels": 1.0}, {"pixels": 1.0})
    verified = replace(manifest, origin=replace(manifest.origin, verification=found))
    assert Manifest.parse(verified.to_bytes()) == verified
    assert verified.digest != manifest.digest
    for wrong in ({"probes": "16"}, {"libraries": {"timm": 1}}, {"tolerance": {"pixels": "1"}}, {"more": 1}):
        value = json.loads(verified.to_bytes())
        value["origin"]["verification"] |= wrong
        with pytest.raises(InvalidManifest):
            Manifest.parse(canonical_json(value))


def test_labels_differ_and_their_order_counts() -> None:
    wire = Wire("head", "logits")
    with pytest.raises(InvalidManifest, match="all different"):
        Head("digits", "classification", wire, ("a", "a"))
    one = Head("digits", "classification", wire, ("a", "b"))
    other = Head("digits", "classification", wire, ("b", "a"))
    assert one.labels_digest != other.labels_digest


@pytest.mark.parametrize("text", ["features.4:h_out", "recipe:pixels", "head:logits"])
def test_a_wire_reads_back_as_itself(text: str) -> None:
    assert str(Wire.parse(text)) == text


@pytest.mark.parametrize("text", ["", "pixels", ":pixels", "a:"])
def test_other_text_is_no_wire(text: str) -> None:
    with pytest.raises(InvalidManifest):
        Wire.parse(text)


def test_the_recipe_is_no_segment() -> None:
    digest = Digest.of(b"")
    with pytest.raises(InvalidManifest, match="other than 'recipe'"):
        Segment("recipe", "trunk", digest, 1, digest, {"pixels": Wire("recipe", "pixels")}, ("h",))
