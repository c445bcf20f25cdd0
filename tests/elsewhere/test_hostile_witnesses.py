"""Whatever a witness does: one sentence, no row lost, no cosignature stored, and nothing released."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from reviews import House
from witnesses import COSIGNER, KEEPER, SmallLog, answering, speaking

from donewhen.cosignatures import cosign_text
from donewhen.elsewhere import Elsewhere
from donewhen.errors import NotKeptError
from donewhen.notes import LocalSigner
from donewhen.outbox import Outbox, ToFile
from donewhen.testing.http_server import Connection

NOON = int(datetime(2026, 1, 1, 12, tzinfo=timezone.utc).timestamp())
SIZE_TYPE = {"content-type": "text/x.tlog.size"}


@pytest.fixture
def house(tmp_store: Path) -> Iterator[House]:
    house = House(tmp_store)
    house.finish()
    house.surface.attest("s", "ann")
    yield house
    house.close()


def signing(signer: LocalSigner, time: int) -> Callable[[Connection], None]:
    """Cosign whatever comes, without looking."""

    def answer(connection: Connection) -> None:
        text = connection.data.decode().partition("\n\n")[2].partition("\n\n")[0]
        connection.send_bytes(200, {}, f"{cosign_text(f'{text}{chr(10)}', signer, time)}\n".encode())

    return answer


def saying(data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Callable[[Connection], None]:
    return lambda connection: connection.send_bytes(status, headers or {}, data)


def other_checkpoint(connection: Connection) -> None:
    connection.send_bytes(200, {}, f"{cosign_text(SmallLog(9).text(9), KEEPER, NOON)}\n".encode())


def other_size_each_time() -> Callable[[Connection], None]:
    sizes = count(1)
    return lambda connection: connection.send_bytes(409, SIZE_TYPE, b"%d\n" % next(sizes))


def endless(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"x" * 10_000)


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


HOSTILE: dict[str, tuple[Callable[[], AbstractContextManager[str]], str]] = {
    "says nothing": (lambda: speaking(silent), "did not answer in time"),
    "never ends": (lambda: speaking(endless), "longer than"),
    "hangs up": (lambda: answering(lambda connection: connection.cut()), "could not be asked"),
    "is out of order": (lambda: answering(saying(b"oops", 500)), "(500): oops"),
    "sends elsewhere": (lambda: answering(saying(b"", 302, {"location": "/"})), "redirects are not followed"),
    "thanks": (lambda: answering(saying(b"thank you\n")), "not a signature line"),
    "signs with another key": (lambda: answering(signing(LocalSigner(KEEPER.name, bytes(32)), NOON)), "nothing signed"),
    "signs another checkpoint": (lambda: answering(other_checkpoint), "not of this checkpoint"),
    "signs in 1970": (lambda: answering(signing(KEEPER, 1)), "one of the two is wrong"),
    "signs far in the future": (lambda: answering(signing(KEEPER, 2**62)), "one of the two is wrong"),
    "has seen more": (lambda: answering(saying(b"999\n", 409, SIZE_TYPE)), "has seen 999 rows"),
    "names another size each time": (lambda: answering(other_size_each_time()), "(409)"),
    "names no size": (lambda: answering(saying(b"many\n", 409, SIZE_TYPE)), "409 without the size"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_witness_that(what: str, house: House, tmp_path: Path) -> None:
    opening, said = HOSTILE[what]
    target = tmp_path / "out.md"
    ledger, before = house.ledger, len(list(house.ledger.iter_rows()))
    with opening() as url:
        options: dict[str, Any] = {"timeout_seconds": 0.3 if what == "says nothing" else 60}
        elsewhere = Elsewhere(
            witnesses=[(url, COSIGNER.vkey)], now=lambda: datetime.fromtimestamp(NOON, timezone.utc), **options
        )
        with pytest.raises(NotKeptError) as caught:
            Outbox(ledger, elsewhere=elsewhere).release("s", ToFile(target))
    (problem,) = caught.value.problems
    assert said in problem
    assert problem.startswith(f"the witness {COSIGNER.name}: ")
    assert "\n" not in problem
    assert not target.exists()
    assert ledger.store.read_cosigned() == []
    written = list(ledger.iter_rows(before))
    assert [row.data["state"] for row in written] == ["begun", "failed"]
    # Nothing was spoilt by it: with no such witness it is released.
    Outbox(ledger).release("s", ToFile(target))
    assert target.exists()
