"""Bodies in every form: parsed, or refused with the right error."""

import base64
import io
import json
import re
from email.generator import BytesGenerator
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import CultivarError, InputTooLarge, UndecodableInput
from services.api import codec, multipart, npy
from services.errors import MalformedRequest, UnsupportedMedia


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (1, 4, 5, 3)])
def test_arrays_as_numpy_writes_them_are_read_without_a_copy(
    shape: tuple[int, ...], version: tuple[int, int]
) -> None:
    array = np.arange(int(np.prod(shape)), dtype=np.uint8).reshape(shape)
    read = npy.read_uint8(saved(array, version))
    np.testing.assert_array_equal(read, array)
    assert not read.flags.owndata


@pytest.mark.parametrize("shape", [(0, 4), (3,), (2, 3), (256, 4)])
def test_arrays_that_are_written_are_read_by_numpy(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    read = np.load(io.BytesIO(npy.write(array)), allow_pickle=False)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.float32


def test_a_header_of_enormous_length_is_refused() -> None:
    with pytest.raises(UndecodableInput, match="at most"):
        npy.read_uint8(b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\xff" + b"{")


def test_an_array_of_objects_is_refused() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UndecodableInput):
        npy.read_uint8(stream.getvalue())


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_array_reader(data: bytes) -> None:
    for body in (data, b"\x93NUMPY\x01\x00" + data, saved(np.zeros((2, 2), np.uint8))[: len(data)]):
        try:
            npy.read_uint8(body)
        except UndecodableInput as error:
            assert str(error)


def form(*contents: bytes) -> tuple[str, bytes]:
    """A form as Python's own mail package writes it."""
    message = MIMEMultipart("form-data")
    for number, content in enumerate(contents):
        part = MIMEImage(content, "png", _encoder=lambda part: None)
        part.add_header("Content-Disposition", "form-data", name="file", filename=f"{number}.png")
        message.attach(part)
    stream = io.BytesIO()
    BytesGenerator(stream, mangle_from_=False).flatten(message, linesep="\r\n")
    return message["content-type"].replace("\r\n", ""), stream.getvalue().partition(b"\r\n\r\n")[2]


def test_files_of_a_form_come_in_order_byte_for_byte() -> None:
    contents = [b"a", b"", b"line\r\nline\r\n", b"--almost a boundary", bytes(range(256))]
    content_type, body = form(*contents[:1])
    boundary = multipart.boundary_of(content_type)
    parts = [b'Content-Disposition: form-data; name="f"; filename="x"\r\n\r\n' + each for each in contents]
    whole = (
        b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    )
    assert multipart.files(whole, boundary, 10) == contents
    assert multipart.files(body, boundary, 10) == [b"a"]


def test_a_preamble_before_the_form_is_passed_over() -> None:
    body = b'hello\r\n--b\r\ncontent-disposition: form-data; filename="x"\r\n\r\ndata\r\n--b--'
    assert multipart.files(body, b"b", 10) == [b"data"]


def test_a_form_holds_so_many_files_and_no_more() -> None:
    part = b'--b\r\nContent-Disposition: form-data; filename="x"\r\n\r\ndata\r\n'
    assert len(multipart.files(part * 3 + b"--b--", b"b", 3)) == 3
    with pytest.raises(InputTooLarge):
        multipart.files(part * 4 + b"--b--", b"b", 3)


FILE_HEADERS = [
    'name="f"; filename="a.png"',
    "name=f; filename=a.png",
    'filename="файл.png"',
    "name=\"f\"; filename*=UTF-8''%D1%84.png",
    "name=\"f\"; filename*=utf-8'en'a%20b.png",
    "name=\"f\"; FileName*=ISO-8859-1''%e9.png",
    'name="f"; filename="a.png"; filename*=UTF-8\'\'%D1%84.png',
    'name="f"; filename="a.png"; filename*=UTF-8\'\'%FF',
    'name="f"; filename="a;b\\"c=.png"',
    'name="f\\"g; x"; filename="a\\\\"',
    'name="f";filename=""',
]
FIELD_HEADERS = [
    'name="top_k"',
    'name="x; filename=a.png"',
    'name="x\\"; filename=a.png"',
    "name=\"x; filename*=UTF-8''a.png\"",
    "name=f; filename*=UTF-8''%FF.png",
    "name=f; filename*=UTF-8''",
    "name=f; filename*=UTF-16''a",
    "name=f; filename*=a.png",
    "name=f; filename*0=a; filename*1=b",
]


def form_with(disposition: str) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; %b\r\n\r\ndata\r\n--b--\r\n" % disposition.encode()


@pytest.mark.parametrize("disposition", FILE_HEADERS)
def test_a_file_name_is_read_in_every_spelling(disposition: str) -> None:
    assert multipart.files(form_with(disposition), b"b", 1) == [b"data"]


@pytest.mark.parametrize("disposition", FIELD_HEADERS)
def test_what_has_no_file_name_is_no_file(disposition: str) -> None:
    with pytest.raises(MalformedRequest, match="filename"):
        multipart.files(form_with(disposition), b"b", 1)


@given(st.binary(max_size=300))
def test_no_bytes_upset_the_form_reader(data: bytes) -> None:
    heading = b"--b\r\nContent-Disposition: form-data;"
    for body in (
        data,
        b"--b\r\n" + data,
        b"--b\r\n\r\n\r\n" + data + b"\r\n--b",
        heading + data + b"\r\n\r\n",
    ):
        try:
            multipart.files(body, b"b", 4)
        except CultivarError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; charset=utf-8; boundary="a b;c"', b"a b;c"),
        ("multipart/form-data; Boundary=abc; x=y", b"abc"),
    ],
)
def test_boundaries_are_found(content_type: str, boundary: bytes) -> None:
    assert multipart.boundary_of(content_type) == boundary


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(MalformedRequest):
        multipart.boundary_of(content_type)


@pytest.mark.parametrize("content_type", ["image/png", "IMAGE/JPEG", "image/jpeg; q=1", "image/x-anything"])
def test_any_image_type_is_one_picture(content_type: str) -> None:
    assert codec.parse(content_type, b"data", 4).items == (b"data",)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/octet-stream", "images/png"])
def test_other_types_are_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMedia):
        codec.parse(content_type, b"data", 4)


def test_texts_and_pairs_come_as_they_are() -> None:
    body = '{"texts": ["", "a\\u0000é😀", ["a", "b"]]}'.encode()
    inputs = codec.parse("application/json; charset=utf-8", body, 4)
    assert inputs.modality == "text"
    assert list(inputs.items) == ["", "a\0é😀", ("a", "b")]


@pytest.mark.parametrize(
    "item", ["7", "null", "{}", "[]", '["a"]', '["a", 1]', '["a", "b", "c"]', '[["a", "b"]]']
)
def test_what_is_no_text_is_named(item: str) -> None:
    with pytest.raises(UndecodableInput, match="pair") as caught:
        codec.parse("application/json", f'{{"texts": ["a", {item}]}}'.encode(), 4)
    assert caught.value.index == 1


PICTURE = bytes(range(256)) + b"\xfb\xff\xfe"
STANDARD = base64.b64encode(PICTURE).decode()
URL_SAFE = base64.urlsafe_b64encode(PICTURE).decode()


@pytest.mark.parametrize(
    "item",
    [
        STANDARD,
        URL_SAFE,
        base64.encodebytes(PICTURE).decode(),
        "\r\n".join(re.findall(".{1,64}", STANDARD)),
        " " + "\t ".join(STANDARD) + "\n",
        f"data:image/png;base64,{STANDARD}",
        f"DATA:Image/PNG;name=a.png;BASE64,{STANDARD}",
        f"data:image/svg+xml;charset=utf-8;base64,{URL_SAFE}",
        f"data:image/jpeg;base64,{quote(STANDARD, safe='')}",
        "data:image/png;base64," + base64.encodebytes(PICTURE).decode(),
    ],
)
def test_pictures_in_json_come_in_every_usual_spelling_of_base64(item: str) -> None:
    body = json.dumps({"images": ["AAAA", item]}).encode()
    assert codec.parse("application/json", body, 4).items == [bytes(3), PICTURE]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (STANDARD[:-1], "padding"),
        (STANDARD.rstrip("="), "padding"),
        (STANDARD + "AAAA", "padding"),
        (STANDARD + "!", "base64"),
        (STANDARD[:8] + "\x00" + STANDARD[8:], "base64"),
        (STANDARD[:8] + "\x0b" + STANDARD[8:], "base64"),
        ("=" + STANDARD, "padding"),
        ("+-AA", "alphabet"),
        ("é" + STANDARD, "character 1 is not ASCII"),
        (f"data:image/png,{STANDARD}", "without ';base64'"),
        (f"data:image/png;base64;x=y,{STANDARD}", "without ';base64'"),
        (f"data:image/png;base64{STANDARD}", "comma"),
        (f"data:image/png;{'x' * 300};base64,{STANDARD}", "comma"),
        ("data:image/png;base64,%zz", "base64"),
        ("data:image/png;base64,é", "base64"),
        (f"data:image/png;base64,data:image/png;base64,{STANDARD}", "base64"),
        ("https://example.org/a.png", "none is fetched"),
        ("file:///etc/passwd", "base64"),
        (7, "got int"),
    ],
    ids=str,
)
def test_what_is_no_base64_is_refused_and_named(item: object, says: str) -> None:
    with pytest.raises(UndecodableInput, match=says) as caught:
        codec.parse("application/json", json.dumps({"images": ["AAAA", item]}).encode(), 4)
    assert caught.value.index == 1


@pytest.mark.parametrize(
    "head", ["text/html", "text/plain;charset=utf-8", "application/pdf", "", "images/png"]
)
def test_a_data_url_of_something_else_than_a_picture_is_refused(head: str) -> None:
    body = json.dumps({"images": [f"data:{head};base64,{STANDARD}"]}).encode()
    with pytest.raises(UnsupportedMedia, match="input 0"):
        codec.parse("application/json", body, 4)


@given(st.binary(max_size=300), st.integers(0, 80))
def test_base64_is_read_however_it_is_wrapped(data: bytes, width: int) -> None:
    text = base64.b64encode(data).decode()
    wrapped = "\n".join(re.findall(f".{{1,{width}}}", text)) if width else text
    body = json.dumps({"images": [wrapped, f"data:image/x;base64,{wrapped}"]}).encode()
    assert codec.parse("application/json", body, 4).items == [data, data]


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_json_reader(data: bytes) -> None:
    for body in (data, b'{"images": [' + data + b"]}", b'{"texts": ["' + data + b'"]}'):
        try:
            codec.parse("application/json", body, 4)
        except CultivarError as error:
            assert str(error)


HOSTILE_FORMS = {
    "header without end": b"--b\r\nContent-Disposition: form-data; " + b"x" * 1_000_000,
    "many headers": b'--b\r\nContent-Disposition: form-data; filename="a"\r\n'
    + b"X: y\r\n" * 17
    + b"\r\n\r\n--b--",
    "8 KiB of headers": b'--b\r\nContent-Disposition: form-data; filename="a"\r\nX: '
    + b"y" * 8192
    + b"\r\n\r\n\r\n--b--",
    "two dispositions": b'--b\r\nContent-Disposition: form-data; filename="a"\r\n' * 2 + b"\r\n\r\n--b--",
    "folded header": b'--b\r\nContent-Disposition: form-data;\r\n filename="a"\r\n\r\n\r\n--b--',
    "header without colon": b'--b\r\nContent-Disposition: form-data; filename="a"\r\nX\r\n\r\n\r\n--b--',
    "many parameters": b"--b\r\nContent-Disposition: form-data; "
    + b'a="b";' * 1300
    + b'filename="a"\r\n\r\n\r\n--b--',
    "quotes": b"--b\r\nContent-Disposition: form-data; " + b'"' * 7900 + b'filename="a"\r\n\r\nx\r\n--b--',
    "escaped quotes": b"--b\r\nContent-Disposition: form-data; " + b';a="\\"' * 1300 + b"\r\n\r\nx\r\n--b--",
    "boundary with a tail": b'--b\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx\r\n--bc\r\n',
    "no end": b'--b\r\nContent-Disposition: form-data; filename="a"\r\n\r\n' + b"\r\n-" * 100_000,
    "encoded": b'--b\r\nContent-Disposition: form-data; filename="a"\r\n'
    + b"Content-Transfer-Encoding: base64\r\n\r\neA==\r\n--b--",
    "padding without end": b"--b" + b" " * 1_000_000 + b"\r\n",
    "no boundary": b"\r\n-" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE_FORMS)
def test_a_hostile_form_is_refused(name: str) -> None:
    with pytest.raises(MalformedRequest):
        multipart.files(HOSTILE_FORMS[name], b"b", 256)


def test_what_follows_the_last_boundary_is_passed_over() -> None:
    body = (
        b'--b \t\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx\r\n--b--\r\nepilogue'
        + b"\r\n--b" * 10
    )
    assert multipart.files(body, b"b", 1) == [b"x"]


def test_a_content_type_is_short() -> None:
    with pytest.raises(MalformedRequest, match="1000 characters"):
        codec.parse("multipart/form-data; " + 'a="b";' * 9000 + "boundary=B", b"--B--", 4)


def test_escapes_by_the_million_are_decoded() -> None:
    body = b'{"images":["data:image/png;base64,' + b"%41" * (4 << 20) + b'"]}'
    assert codec.parse("application/json", body, 1).items == [bytes(3 << 20)]
