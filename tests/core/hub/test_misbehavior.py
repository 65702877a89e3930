"""However a server misbehaves, the right bytes or one line come of it, and nothing wrong is kept."""

from __future__ import annotations

import gzip
import random
import socket
import time
from collections.abc import Callable

import pytest
from perceptual_style.core.errors import HubError
from perceptual_style.core.hub import fetch as hub_fetch

pytestmark = pytest.mark.slow

REVISION = "1234567890" * 4
DATA = random.Random(5).randbytes(300_000)
PAGE = b"<!DOCTYPE html><html><title>Sign in to the airport</title></html>"
Answer = Callable[..., None]  # of a handler: whether the body is wanted


def send(
    status: int = 200, content: bytes = b"", *, body: bool, handler, length: str | None = "", **headers: str
) -> None:
    """Send an answer. ``length`` is what Content-Length says; empty is the truth, and None leaves it out."""
    handler.send_response(status)
    if length is not None:
        handler.send_header("Content-Length", length or str(len(content)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Connection", "close")
    handler.end_headers()
    if body:
        handler.wfile.write(content)


def says(*arguments, **headers: str) -> Answer:
    return lambda handler, body: send(*arguments, body=body, handler=handler, **headers)


def closes(handler, body: bool) -> None:
    handler.close_connection = True


def resets(handler, body: bool) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()
    handler.close_connection = True


def hangs(handler, body: bool) -> None:
    time.sleep(2)
    handler.close_connection = True


def speaks_something_else(handler, body: bool) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
    handler.close_connection = True


def sends_endless_headers(handler, body: bool) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(300)) + b"\r\n")
    handler.close_connection = True


def sends_a_long_header(handler, body: bool) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n")
    handler.close_connection = True


def breaks_a_chunk(handler, body: bool) -> None:
    handler.send_response(200)
    handler.send_header("ETag", '"abc"')
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    if body:
        handler.wfile.write(b"ffff\r\nshort\r\n")
    handler.close_connection = True


def answers_another_range(handler, body: bool) -> None:
    send(
        206,
        DATA[100:],
        body=body,
        handler=handler,
        ETag='"abc"',
        Content_Range=f"bytes 100-{len(DATA) - 1}/{len(DATA)}",
    )


OURS = {"ETag": '"abc"', "X_Repo_Commit": REVISION, "Accept_Ranges": "bytes"}
BEHAVIORS: dict[str, Answer] = {
    "page": says(200, PAGE, Content_Type="text/html"),
    "page with an ETag": says(200, PAGE, Content_Type="text/html", **OURS),
    "page with status 407": says(407, PAGE, Content_Type="text/html"),
    "page with status 511": says(511, PAGE, Content_Type="text/html"),
    "empty file": says(200, b"", **OURS),
    "one byte less": says(200, DATA[:-1], **OURS),
    "one byte more": says(200, DATA + b"x", **OURS),
    "one byte wrong": says(200, b"x" + DATA[1:], **OURS),
    "another file of the size": says(200, bytes(len(DATA)), **OURS),
    "right file without headers": says(200, DATA, length=None),
    "right file with an empty ETag": says(200, DATA, ETag=""),
    "right file with a weak ETag": says(200, DATA, ETag='W/"abc"'),
    "right file with an ETag of a path": says(200, DATA, ETag='"../../../../evil"', X_Repo_Commit="../../evil"),
    "right file with a linked size that is wrong": says(200, DATA, X_Linked_Size="5", **OURS),
    "right file with status 206": says(206, DATA, **OURS),
    "right file with a wrong range": says(206, DATA, Content_Range="rubbish", **OURS),
    "another range": answers_another_range,
    "length that is a word": says(200, DATA, length="many", **OURS),
    "length that is negative": says(200, DATA, length="-5", **OURS),
    "length that is too small": says(200, DATA, length="1000", **OURS),
    "length that is too large": says(200, DATA, length="400000", **OURS),
    "length that is huge": says(200, DATA, length="9" * 30, **OURS),
    "compressed file": says(200, gzip.compress(DATA), Content_Encoding="gzip", **OURS),
    "file that is said to be compressed": says(200, DATA, Content_Encoding="gzip", **OURS),
    "broken chunk": breaks_a_chunk,
    "redirect to itself": says(302, Location="", **OURS),
    "redirect in a circle": says(302, Location="/again", **OURS),
    "redirect to a closed port": says(302, Location="http://127.0.0.1:1/x", **OURS),
    "redirect to a host that is not there": says(302, Location="http://nowhere.invalid/x", **OURS),
    "redirect to a file": says(302, Location="file:///etc/passwd", **OURS),
    "redirect without an address": says(302, **OURS),
    "status 401": says(401, b"", X_Error_Code="GatedRepo"),
    "status 404": says(404, b""),
    "status 416": says(416, b"", Content_Range="bytes */5"),
    "status 500": says(500, PAGE),
    "status 503": says(503, b"", Retry_After="90"),
    "status 999": says(999, b""),
    "closed connection": closes,
    "reset connection": resets,
    "silence": hangs,
    "another protocol": speaks_something_else,
    "endless headers": sends_endless_headers,
    "long header": sends_a_long_header,
}


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_right_bytes_or_one_line_and_nothing_wrong_is_kept(behavior, entry, hub_standin, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
    handler = hub_standin._server.RequestHandlerClass
    right = handler._answer
    handler._answer = BEHAVIORS[behavior]
    folder = tmp_path / "models"
    try:
        assert hub_fetch.fetch(entry, folder=folder).read_bytes() == DATA
    except HubError as error:
        text = str(error)
        assert text.startswith("wave was not downloaded: ") and "\n" not in text and len(text) < 1000
        assert not list(folder.rglob("*.pth"))
    assert not list(tmp_path.rglob("*evil*"))
    handler._answer = right
    assert hub_fetch.fetch(entry, folder=folder).read_bytes() == DATA
