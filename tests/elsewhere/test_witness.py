"""The witness's client: what a witness should answer is taken, and whatever else it answers is one sentence."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from witnesses import COSIGNER, KEEPER, NOW, ORIGIN, SmallLog, answering, speaking

from donewhen.cosignatures import cosign_text, cosigned_at, cosigner_of
from donewhen.elsewhere.witness import MAX_ANSWER_BYTES, MAX_CLOCK_SECONDS, Cosignature, cosign, witness_address
from donewhen.errors import WitnessError, WitnessRefusedError
from donewhen.notes import LocalSigner, add_signature_lines
from donewhen.signature_lines import to_base64
from donewhen.testing import Witness
from donewhen.testing.http_server import Connection

SMALL = SmallLog(9)
TEXT = SMALL.text(9)
LINE = cosign_text(TEXT, KEEPER, NOW)
TLOG_SIZE = {"content-type": "text/x.tlog.size"}


def ask(url: str, **changes: Any) -> Cosignature:
    """Ask a witness about the log of nine rows."""
    asked = {"old_size": 0, "prove": SMALL.prover(9), "timeout_seconds": 30, "now": lambda: NOW, **changes}
    return cosign(url, COSIGNER, SMALL.note(9), 9, **asked)


def answer(data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Callable[..., None]:
    return lambda connection: connection.send_bytes(status, headers or {}, data)


def refused(data: bytes, status: int = 200, headers: dict[str, str] | None = None, **changes: Any) -> WitnessError:
    """Return the error to which an answer leads."""
    with answering(answer(data, status, headers)) as url, pytest.raises(WitnessError) as caught:
        ask(url, **changes)
    assert str(caught.value).startswith(f"the witness {COSIGNER.name}: ")
    assert "\n" not in str(caught.value)
    return caught.value


# -- what it should answer ----------------------------------------------------------------------------------------------


@pytest.fixture
def witness() -> Any:
    with Witness(signer=KEEPER, now=lambda: NOW) as opened:
        opened.trust(ORIGIN, SMALL_VKEY)
        yield opened


SMALL_VKEY = LocalSigner(ORIGIN, bytes(range(32))).vkey


def test_a_witness_cosigns_what_extends_what_it_saw(witness) -> None:
    for old, new in ((0, 1), (1, 2), (2, 7), (7, 9), (9, 9)):
        found = cosign(
            witness.url, COSIGNER, SMALL.note(new), new, old_size=old, prove=SMALL.prover(new), now=lambda: NOW
        )
        assert found.time == NOW
        assert cosigned_at(add_signature_lines(SMALL.note(new), [found.line]), COSIGNER) == NOW
    assert witness.statuses == [200] * 5
    assert witness.size_of(ORIGIN) == 9


@pytest.mark.parametrize("known", [0, 1, 5, 8, 9])
def test_a_witness_that_knows_another_size_is_asked_from_there(witness, known) -> None:
    if known:
        cosign(witness.url, COSIGNER, SMALL.note(known), known, old_size=0, prove=SMALL.prover(known), now=lambda: NOW)
    assert ask(witness.url).line == LINE
    assert witness.statuses == [200] if not known else [200, 409, 200]


def test_lines_of_others_and_of_other_kinds_are_not_looked_at() -> None:
    stranger = cosign_text(TEXT, LocalSigner("witness.example/w2", bytes(32)), 1)
    unknown = f"— {COSIGNER.name} {to_base64(b'mldsa' + bytes(2424))}"
    body = f"{stranger}\n{stranger}\n{unknown}\n{LINE}\n".encode()
    with answering(answer(body)) as url:
        assert ask(url) == Cosignature(LINE, NOW)


def test_the_request_is_the_specifications() -> None:
    asked: list[bytes] = []

    def look(connection: Connection) -> None:
        asked.append(connection.data)
        assert connection.path == "/a/prefix/add-checkpoint"
        connection.send_bytes(200, {}, f"{LINE}\n".encode())

    with answering(look) as url:
        ask(f"{url}/a/prefix/", old_size=3)
    proof = "".join(f"{to_base64(digest)}\n" for digest in SMALL.prover(9)(3))
    assert asked == [f"old 3\n{proof}\n{SMALL.note(9)}".encode()]


# -- a witness that will not -------------------------------------------------------------------------------------------


def test_a_log_that_was_cut_back_is_told_as_such(witness) -> None:
    ask(witness.url)
    with pytest.raises(WitnessRefusedError, match="has seen 9 rows of this log, and here there are 4"):
        cosign(witness.url, COSIGNER, SMALL.note(4), 4, old_size=4, prove=SMALL.prover(4), now=lambda: NOW)
    assert witness.size_of(ORIGIN) == 9


def test_a_log_that_was_rewritten_is_refused(witness) -> None:
    other = SmallLog(12, "another row")
    ask(witness.url)
    for size in (9, 12):
        with pytest.raises(WitnessRefusedError, match="does not cosign \\(422\\): ") as caught:
            cosign(witness.url, COSIGNER, other.note(size), size, old_size=9, prove=other.prover(size))
        assert (caught.value.status, caught.value.size) == (422, None)


def test_a_witness_that_lost_its_memory_is_not_believed_again(witness) -> None:
    ask(witness.url)
    witness.forget(ORIGIN)
    with pytest.raises(WitnessRefusedError, match=r"cosigned 9 rows .* It has lost its memory") as caught:
        ask(witness.url, old_size=9)
    assert caught.value.size == 0


def test_a_witness_that_names_another_size_each_time_is_asked_twice() -> None:
    sizes = iter(range(1, 9))
    answers = answering(lambda connection: connection.send_bytes(409, TLOG_SIZE, b"%d\n" % next(sizes)))
    with answers as url, pytest.raises(WitnessRefusedError) as caught:
        ask(url)
    assert (caught.value.status, caught.value.size, next(sizes)) == (409, 2, 3)


@pytest.mark.parametrize(
    "body",
    [b"", b"5", b"05\n", b"-1\n", b"+5\n", b" 5\n", b"5\r\n", b"5\n\n", b"5.0\n", b"\xd9\xa5\n", b"9" * 20 + b"\n"],
)
def test_a_size_has_one_spelling(body) -> None:
    assert "409 without the size" in str(refused(body, 409, TLOG_SIZE))


@pytest.mark.parametrize("status", [201, 204, 206, 400, 403, 404, 418, 422, 429, 500, 503])
def test_any_other_status_is_a_refusal(status) -> None:
    error = refused(b"" if status == 204 else b"no thanks\x1b[31m\nsecond line\x00" + b"x" * 1000, status)
    assert isinstance(error, WitnessRefusedError)
    assert error.status == status
    assert error.said.startswith("it did not say why" if status == 204 else "no thanks [31m second line xxx")
    assert len(error.said) <= 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status, witness) -> None:
    error = refused(b"", status, {"location": f"{witness.url}/add-checkpoint"})
    assert "redirects are not followed" in str(error)
    assert witness.statuses == []


# -- cosignatures that are none ------------------------------------------------------------------------------------------

OTHER = SmallLog(9, "another row")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no cosignature of this checkpoint"),
        (b"\n", "no cosignature of this checkpoint"),
        (b"thanks\n", "not a signature line"),
        (LINE.encode(), "no cosignature of this checkpoint"),
        (f"{LINE}\r\n".encode(), "not a signature line"),
        (f"{LINE}\n\n".encode(), "no cosignature of this checkpoint"),
        (f"\n{LINE}\n".encode(), "no cosignature of this checkpoint"),
        (f"{LINE}\n{LINE}\n".encode(), "twice"),
        (LINE.encode("utf-16"), "not text in UTF-8"),
        (f"{cosign_text(OTHER.text(9), KEEPER, NOW)}\n".encode(), "not of this checkpoint, or forged"),
        (f"{cosign_text(SMALL.text(8), KEEPER, NOW)}\n".encode(), "not of this checkpoint, or forged"),
        (f"{cosign_text(TEXT, LocalSigner(KEEPER.name, bytes(32)), NOW)}\n".encode(), "nothing signed by"),
        (f"{SMALL.note(9).splitlines()[-1]}\n".encode(), "nothing signed by"),
        (f"{SMALL.note(9)}{LINE}\n".encode(), "no cosignature of this checkpoint"),
        (b"\xe2\x80\x94 x " * 100, "no cosignature of this checkpoint"),
        ("".join(f"— w{n} AAAAAGFueXRoaW5n\n" for n in range(101)).encode(), "at most 100"),
    ],
)
def test_what_is_no_cosignature_of_this_checkpoint_is_refused(body, said) -> None:
    assert said in str(refused(body))


def line_at(time: int) -> bytes:
    """Return a line that says it was signed at a time at which none can be."""
    good = cosign_text(TEXT, KEEPER, 5).rpartition(" ")
    blob = COSIGNER.key_hash + (time % 2**64).to_bytes(8, "big") + bytes(64)
    return f"{good[0]} {to_base64(blob)}\n".encode()


@pytest.mark.parametrize("time", [0, 2**63, 2**64 - 1])
def test_a_time_that_can_be_none_is_refused(time) -> None:
    assert "no proper time" in str(refused(line_at(time)))


@pytest.mark.parametrize("off", [-NOW + 1, -MAX_CLOCK_SECONDS - 1, MAX_CLOCK_SECONDS + 1, 2**62])
def test_a_time_far_from_ours_is_refused(off) -> None:
    assert "one of the two is wrong" in str(refused(f"{cosign_text(TEXT, KEEPER, NOW + off)}\n".encode()))


@pytest.mark.parametrize("off", [-MAX_CLOCK_SECONDS, 0, MAX_CLOCK_SECONDS])
def test_clocks_may_differ_a_little(off) -> None:
    line = cosign_text(TEXT, KEEPER, NOW + off)
    with answering(answer(f"{line}\n".encode())) as url:
        assert ask(url) == Cosignature(line, NOW + off)


# -- witnesses that do not answer ----------------------------------------------------------------------------------------


def could_not(url: str, **changes: Any) -> str:
    with pytest.raises(WitnessError) as caught:
        ask(url, **changes)
    assert not isinstance(caught.value, WitnessRefusedError)
    assert f"it could not be asked at {url}/add-checkpoint: " in str(caught.value)
    return str(caught.value)


def test_nobody_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    assert could_not(url).endswith("nobody answers there")


def wait(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def drip(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not over.wait(0.01):
        connection.sendall(b"x")


def drip_body(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while not over.wait(0.01):
        connection.sendall(b"x")


@pytest.mark.parametrize("talk", [wait, drip, drip_body])
def test_a_witness_that_keeps_us_waiting_is_left_in_time(talk) -> None:
    with speaking(talk) as url:
        assert could_not(url, timeout_seconds=0.3).endswith("it did not answer in time")


def endless(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"\xe2\x80\x94 x" * 10_000)


def endless_headers(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.is_set():
        connection.sendall(b"X-More: 1\r\n" * 1000)


def test_an_answer_without_an_end_is_not_read_to_it() -> None:
    with speaking(endless) as url:
        assert could_not(url).endswith(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    with speaking(endless_headers) as url:
        assert "not proper HTTP" in could_not(url)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"hello\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_told(said) -> None:
    with speaking(lambda connection, over: connection.sendall(said)) as url, pytest.raises(WitnessError):
        ask(url)


def test_a_plain_server_behind_an_https_url_is_told() -> None:
    with answering(answer(b"")) as url:
        secure = url.replace("http:", "https:")
        assert "the secure connection failed" in could_not(secure)


def test_a_certificate_that_nobody_vouches_for_is_told(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own_certificate(tmp_path))

    def talk(connection: socket.socket, over: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    with speaking(talk) as url:
        assert "the secure connection failed (CERTIFICATE_VERIFY_FAILED)" in could_not(url.replace("http:", "https:"))


def own_certificate(folder: Path) -> Path:
    """Make a certificate that no authority signed, and its key, in one file."""
    from datetime import datetime, timezone
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=timezone.utc))
    builder = builder.not_valid_after(datetime(2100, 1, 1, tzinfo=timezone.utc))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "own.pem"
    path.write_bytes(private + made.public_bytes(pem))
    return path


# -- addresses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://127.0.0.1:80", "http://127.0.0.1/add-checkpoint"),
        ("https://witness.example", "https://witness.example/add-checkpoint"),
        ("https://witness.example/", "https://witness.example/add-checkpoint"),
        ("https://witness.example:8443/a/b//", "https://witness.example:8443/a/b/add-checkpoint"),
        ("http://[::1]:7380/w", "http://[::1]:7380/w/add-checkpoint"),
    ],
)
def test_checkpoints_go_under_the_prefix(url, asked) -> None:
    assert witness_address(url).url == asked


@pytest.mark.parametrize(
    "url",
    [
        "",
        "witness.example",
        "ftp://witness.example",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://me:secret@witness.example",
        "https://me@witness.example",
        "https://witness.example/?a=1",
        "https://witness.example?",
        "https://witness.example/#x",
        "https://witness.example:0",
        "https://witness.example:99999",
        "https://witness.example:x",
        "https://witness.example/a b",
        "https://witness.example/\r\nHost: other",
        "https://wítness.example",
        "https://[::1",
        "https://wit/" + "x" * 2000,
    ],
)
def test_a_url_that_cannot_be_used_is_refused_before_anybody_is_asked(url) -> None:
    with pytest.raises(ValueError, match=r"URL|port|Port") as caught:
        witness_address(url)
    assert "secret" not in str(caught.value)


def test_the_witness_signs_with_the_key_it_publishes() -> None:
    with Witness("witness.test/other") as opened:
        assert opened.vkey.startswith("witness.test/other+")
    assert cosigner_of(KEEPER).vkey == COSIGNER.vkey
