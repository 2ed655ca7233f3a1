"""Values that programs have failed on."""

NUMBERS = (
    b"0",
    b"-1",
    b"1.5",
    b"1e400",
    b"9" * 40,
    b"0x10",
    b"NaN",
    b"-0",
    b"+1",
    b"\xd9\xa1",
    b"1_0",
    b" 1 ",
    b"",
)
WORDS = (
    b"", b"\0", b"\xff\xfe", b"..", b"%00", b"%2e%2e%2f", b"%ff", b"%", b"{}", b"'", b'"', b"a" * 300,
    b"\xf0\x9f\x8c\xb1",
    b"${7*7}", b"../../etc/passwd", b"a,b,c", b"," * 300, b"production", b"staging", b"sha256:0",
    b"sha256:" + b"0" * 64,
)  # fmt: skip
MEDIA = (
    b"image/png", b"image/", b"IMAGE/JPEG", b"image/svg+xml", b"application/json",
    b"application/json; charset=utf-16",
    b"application/x-npy", b"multipart/form-data", b"multipart/form-data; boundary=",
    b"multipart/mixed; boundary=a",
    b'multipart/form-data; boundary="a"', b"multipart/form-data; boundary=" + b"-" * 3000,
    b"text/plain", b";", b"\xff",
)  # fmt: skip
METHODS = (
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"TRACE",
    b"PATCH",
    b"CONNECT",
    b"PROPFIND",
    b"get",
    b"BREW",
)
HEADERS = (
    (b"Accept", b"application/x-npy"), (b"Accept", b"*/*;q=x"), (b"Accept-Encoding", b"gzip"),
    (b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"identity"), (b"Cookie", b"a=b;" * 200),
    (b"X-Expect-Space", b"sha256:00"), (b"X-Expect-Space", b"\xff"), (b"X-Cultivar-Priority", b"low"),
    (b"X-Cultivar-Priority", b"highest"), (b"X-Cultivar-Timeout", b"nan"), (b"X-Cultivar-Timeout", b"0"),
    (b"X-Cultivar-Timeout", b"1e-9"), (b"X-Cultivar-Timeout", b"-1"),
    (b"X-Forwarded-For", b"10.0.0.1, ::1, x"),
    (b"X-Forwarded-Proto", b"https"), (b"Authorization", b"Bearer "), (b"Authorization", b"Basic Og=="),
    (b"Authorization", b"Bearer \xff\xfe"), (b"Connection", b"close"), (b"Connection", b"keep-alive, x"),
    (b"Upgrade", b"h2c"), (b"Connection", b"upgrade"), (b"Upgrade", b"websocket"), (b"Expect",
    b"100-continue"),
    (b"Expect", b"200-ok"), (b"Range", b"bytes=0-1"), (b"If-None-Match", b"*"), (b"Te", b"trailers"),
    (b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"gzip"), (b"Content-Length", b"5"),
    (b"Content-Length", b"-5"), (b"Host", b"other"), (b"Traceparent",
    b"00-" + b"f" * 32 + b"-" + b"f" * 16 + b"-01"),
    (b"Traceparent", b"zz"), (b"B3", b"x"), (b"Yatai-Bento-Deployment-Name", b"x"), (b"Args-Number", b"1"),
    (b"Payload-Container", b"NdarrayContainer"), (b"Bento-Name", b"x"), (b"Content-Type",
    b"application/vnd.bentoml+pickle"),
)  # fmt: skip
TEXTS = (
    "", "\0", "\ud800", "\U0001f331" * 50, "\u202e", "e\u0301" * 100, "a" * 25_000, "http://127.0.0.1/a.png",
    "data:image/png;base64,", "data:text/plain;base64,AAAA", "data:image/png," + "%00" * 20, "====",
    "A===", "AAA=A",
    "-_-_", "iVBORw0KGgo=",
)  # fmt: skip
DTYPES = ("u1", "<u2", "|u1", "|i1", ">f4", "<f8", "|O", "|S8", "|b1", "<M8[s]", "|V16", "<u1", "|u1'", "")
