"""One bounded POST: what is asked for is spelled as HTTP wants it, and nothing is waited for beyond the deadline."""

from __future__ import annotations

import time

import pytest
from witnesses import answering, speaking

from donewhen.posting import PostError, left, post, read_address
from donewhen.testing.http_server import Connection


def send(url: str, body: bytes = b"body", *, seconds: float = 60.0, max_bytes: int = 100) -> bytes:
    address = read_address(url)
    return post(address, body, content_type="text/plain", deadline=time.monotonic() + seconds, max_bytes=max_bytes).body


def test_what_is_posted_arrives_and_the_answer_comes_back() -> None:
    seen: list[Connection] = []

    def answer(connection: Connection) -> None:
        seen.append(connection)
        connection.send_bytes(200, {"X-Said": "yes"}, b"an answer")

    with answering(answer) as url:
        address = read_address(f"{url}/a/b")
        found = post(address, b"\x00\xff", content_type="x/y", deadline=time.monotonic() + 60, max_bytes=9)
    assert (found.status, found.body, found.headers["x-said"]) == (200, b"an answer", "yes")
    (asked,) = seen
    assert (asked.path, asked.data) == ("/a/b", b"\x00\xff")
    assert asked.request_headers["host"] == address.authority
    assert asked.request_headers["content-type"] == "x/y"


def test_a_host_may_have_a_name() -> None:
    with answering(lambda connection: connection.send_bytes(200, {}, b"here")) as url:
        assert send(url.replace("127.0.0.1", "localhost")) == b"here"


def test_an_answer_is_read_up_to_its_limit_and_refused_beyond() -> None:
    with answering(lambda connection: connection.send_bytes(200, {}, b"x" * 100)) as url:
        assert send(url, max_bytes=100) == b"x" * 100
        with pytest.raises(PostError, match="longer than 99 bytes"):
            send(url, max_bytes=99)


def test_a_deadline_that_has_passed_is_told_before_anybody_is_asked() -> None:
    asked: list[Connection] = []
    with answering(asked.append) as url, pytest.raises(PostError, match="did not answer in time") as caught:
        send(url, seconds=-1)
    assert (asked, caught.value.sent) == ([], False)
    with pytest.raises(TimeoutError):
        left(time.monotonic() - 1)


def test_a_reader_that_does_not_read_is_left_in_time() -> None:
    with speaking(lambda connection, over: over.wait()) as url, pytest.raises(PostError, match="in time") as caught:
        send(url, b"x" * 50_000_000, seconds=0.3)
    assert caught.value.sent


def test_interim_answers_without_an_end_are_left_in_time() -> None:
    def talk(connection, over) -> None:
        while not over.wait(0.001):
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    with speaking(talk) as url, pytest.raises(PostError):
        send(url, seconds=0.3)


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://a", "a", "/"),
        ("http://a:80/x", "a", "/x"),
        ("https://a:443", "a", "/"),
        ("https://a:80", "a:80", "/"),
        ("HTTP://A.Example/X", "a.example", "/X"),
        ("http://[::1]:9", "[::1]:9", "/"),
    ],
)
def test_an_address_is_spelled_as_http_wants_it(url, authority, path) -> None:
    address = read_address(url)
    assert (address.authority, address.path) == (authority, path)
    assert read_address(address.url) == address
