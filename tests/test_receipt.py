"""Receipts: what is proven, to whom, and what is refused."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from receipts import COSIGNED_AT, OTHER_WITNESS, WITNESS, cosign, fill
from stores.kit import ORIGIN, SIGNER, STRANGER, add, an_entry, begin, say, tamper

from donewhen.cosignatures import cosigner_of
from donewhen.entry import GENESIS, LOG_SESSION, decode, link, place
from donewhen.errors import LedgerFormatError, LedgerTamperedError, NotProvableError, SessionNotFoundError
from donewhen.ledger import Ledger
from donewhen.merkle import Frontier, leaf_hash
from donewhen.notes import Checkpoint, sign_note
from donewhen.receipt import MOST_BYTES, Receipt, make_receipt, verify_receipt


@pytest.fixture
def ledger(tmp_store: Path) -> Iterator[Ledger]:
    begin(tmp_store)
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        fill(ledger)
        yield ledger


@contextmanager
def begun() -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory() as folder:
        begin(Path(folder, "l.db"))
        with Ledger(Path(folder, "l.db"), signer=SIGNER) as ledger:
            yield ledger


def proven(receipt: Receipt | bytes, **options: Any) -> Any:
    return verify_receipt(receipt, SIGNER.verifier, **options)


# -- what is proven ----------------------------------------------------------------------------------------------------


def test_a_session_is_proven_whole(ledger: Ledger) -> None:
    found = proven(make_receipt(ledger, "session-0").dumps())
    assert list(found.rows) == ledger.rows("session-0")
    assert (found.session_id, found.origin, found.size) == ("session-0", ledger.origin, 11)
    assert (found.signed_by, found.cosigned) == (SIGNER.vkey, ())


def test_one_row_is_proven(ledger: Ledger) -> None:
    found = proven(make_receipt(ledger, "session-1", row_id=6).dumps())
    assert [row.id for row in found.rows] == [6]


def test_a_turn_is_proven_with_all_its_rows(ledger: Ledger) -> None:
    for turn in (5, 6, 6, 7):
        ledger.write("turns", turn, "llm", "x", 1, 1, True)
    found = proven(make_receipt(ledger, "turns", turn=6).dumps())
    assert [row.turn_count for row in found.rows] == [6, 6]


def test_it_says_what_it_does_not_say(ledger: Ledger) -> None:
    whole, part = proven(make_receipt(ledger, "session-0")), proven(make_receipt(ledger, "session-0", row_id=4))
    assert whole.not_said[0] == "whether the session has rows after its no. 6"
    assert part.not_said[:2] == (
        "what stands in the session's rows 1 to 2, which are not shown",
        "whether the session has rows after its no. 3",
    )
    assert any("no witness" in sentence for sentence in whole.not_said)


def test_it_stays_good_when_the_session_goes_on(ledger: Ledger) -> None:
    before = make_receipt(ledger, "session-0").dumps()
    say(ledger, "later", "session-0")
    assert len(proven(before).rows) == 6
    assert len(proven(make_receipt(ledger, "session-0")).rows) == 7


def test_a_ledger_opened_for_reading_gives_the_same_receipt(ledger: Ledger) -> None:
    made = make_receipt(ledger, "session-0").dumps()
    with Ledger(ledger.path, read_only=True) as reader:
        assert make_receipt(reader, "session-0").dumps() == made


def test_rows_of_every_kind_and_any_text_are_proven(tmp_store: Path) -> None:
    texts = ["", "\u2028\u0085\x7f", 'quote " and \\', "\U0001f600", "\ud800", "line\nline", "\0"]
    begin(tmp_store)
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        for number, text in enumerate(texts):
            data = {"target": text, "problem": text, "state": "done", "attests": [number]}
            add(ledger.store, an_entry("s", "release", data=data))
        found = proven(make_receipt(ledger, "s").dumps())
    assert [row.data["target"] for row in found.rows] == texts


@settings(max_examples=25)
@given(
    commits=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=8),
    data=st.data(),
)
def test_whatever_was_written_each_session_turn_and_row_is_proven(commits: Any, data: st.DataObject) -> None:
    with begun() as ledger:
        for commit in commits:
            add(ledger.store, *[an_entry(f"s{number}", turn_count=number % 2) for number in commit])
        number = data.draw(st.sampled_from(sorted({number for commit in commits for number in commit})))
        rows = ledger.rows(f"s{number}")
        wanted: Any = data.draw(st.sampled_from([{}, {"turn": number % 2}, {"row_id": rows[-1].id}]))
        receipt = make_receipt(ledger, f"s{number}", **wanted)
        assert Receipt.loads(receipt.dumps()) == receipt
        assert list(proven(receipt.dumps()).rows) == (rows[-1:] if "row_id" in wanted else rows)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_another_key_proves_nothing(ledger: Ledger) -> None:
    with pytest.raises(LedgerTamperedError, match="not signed by"):
        verify_receipt(make_receipt(ledger, "session-0"), STRANGER.verifier)


def test_after_a_rotation_the_new_key_is_the_one_that_counts(ledger: Ledger) -> None:
    ledger.rotate_key(STRANGER, why="it was time", who="ada")
    say(ledger, "later", "session-0")
    made = make_receipt(ledger, "session-0").dumps()
    assert verify_receipt(made, STRANGER.verifier).signed_by == STRANGER.vkey
    with pytest.raises(LedgerTamperedError, match="not signed by"):
        proven(made)


def test_a_receipt_of_the_logs_own_rows_shows_the_rotation(ledger: Ledger) -> None:
    ledger.rotate_key(STRANGER, why="it was time", who="ada")
    found = verify_receipt(make_receipt(ledger, LOG_SESSION).dumps(), STRANGER.verifier)
    assert [row.data["vkey"] for row in found.rows] == [STRANGER.vkey]


def test_an_unsigned_ledger_gives_no_receipt(tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        say(ledger)
        with pytest.raises(NotProvableError, match="unsigned"):
            make_receipt(ledger, "s")


# -- witnesses ---------------------------------------------------------------------------------------------------------


def test_a_witness_that_was_asked_for_must_have_cosigned(ledger: Ledger) -> None:
    witness, other = cosigner_of(WITNESS), cosigner_of(OTHER_WITNESS)
    cosign(ledger, WITNESS)
    made = make_receipt(ledger, "session-0").dumps()
    found = proven(made, witnesses=[witness])
    assert found.cosigned == ((witness.vkey, COSIGNED_AT),)
    assert not any("no witness" in sentence for sentence in found.not_said)
    with pytest.raises(NotProvableError, match=r"witness\.example/w2 has not cosigned"):
        proven(made, witnesses=[witness, other])


def test_the_newest_checkpoint_that_was_cosigned_is_chosen(ledger: Ledger) -> None:
    cosign(ledger, WITNESS, OTHER_WITNESS)
    say(ledger, "later", "session-1")
    both = [cosigner_of(WITNESS), cosigner_of(OTHER_WITNESS)]
    assert proven(make_receipt(ledger, "session-0").dumps(), witnesses=both).size == 11
    assert proven(make_receipt(ledger, "session-1")).size == 12


def test_a_witness_that_cosigned_again_is_quoted_once(ledger: Ledger) -> None:
    cosign(ledger, WITNESS)
    cosign(ledger, WITNESS, at=COSIGNED_AT + 60)
    found = proven(make_receipt(ledger, "session-0").dumps(), witnesses=[cosigner_of(WITNESS)])
    assert found.cosigned[0][1] == COSIGNED_AT + 60


def test_a_cosigned_checkpoint_of_an_older_key_is_not_chosen(ledger: Ledger) -> None:
    cosign(ledger, WITNESS)
    ledger.rotate_key(STRANGER, why="it was time", who="ada")
    say(ledger, "later", "session-1")
    assert verify_receipt(make_receipt(ledger, "session-0"), STRANGER.verifier).size == 13


@pytest.mark.parametrize(
    "tampering",
    ["size = 14", "size = 13", "vkey = 'nonsense'", "line = 'nonsense'", "vkey = replace(vkey, 'w1', 'w2')"],
)
def test_a_forged_cosignature_is_not_handed_out(ledger: Ledger, tampering: str) -> None:
    cosign(ledger, WITNESS)
    add(ledger.store, *[an_entry() for _ in range(3)])
    tamper(Path(ledger.path), f"UPDATE cosigned SET {tampering}")
    with Ledger(ledger.path, read_only=True) as reader, pytest.raises(LedgerTamperedError):
        make_receipt(reader, "session-0")


# -- what cannot be proven ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("session", "part"),
    [("nobody", {}), ("session-0", {"turn": 99}), ("session-0", {"row_id": 2}), ("session-0", {"row_id": 99})],
)
def test_what_is_not_there_is_not_found(ledger: Ledger, session: str, part: Any) -> None:
    with pytest.raises(SessionNotFoundError):
        make_receipt(ledger, session, **part)


def test_a_turn_and_a_row_cannot_both_be_asked_for(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="not of both"):
        make_receipt(ledger, "session-0", turn=1, row_id=1)


def test_a_checkpoint_that_was_never_sealed_is_told(tmp_store: Path) -> None:
    begin(tmp_store)
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        add(ledger.store, *[an_entry() for _ in range(3)])
        assert make_receipt(ledger, "s", size=3).index == 2
        with pytest.raises(NotProvableError, match="no checkpoint of 2 rows"):
            make_receipt(ledger, "s", size=2)


def test_a_receipt_under_an_older_checkpoint_has_its_rows_only(ledger: Ledger) -> None:
    found = proven(make_receipt(ledger, "session-0", size=4))
    assert (found.size, [row.id for row in found.rows]) == (4, [1, 3, 4])


@pytest.mark.parametrize(
    "tampering",
    [
        """UPDATE entries SET body = replace(body, '"tokens":1', '"tokens":2') WHERE id = 3""",
        "DELETE FROM entries WHERE id = 3",
        "UPDATE sealed SET nodes = zeroblob(length(nodes)) WHERE size = 8",
        "UPDATE sealed SET note = (SELECT note FROM sealed WHERE size = 10) WHERE size = 11",
    ],
)
def test_nothing_is_handed_out_that_is_not_what_was_signed(ledger: Ledger, tampering: str) -> None:
    tamper(Path(ledger.path), tampering)
    with pytest.raises(LedgerTamperedError):
        make_receipt(ledger, "session-0")


# -- forgeries by whoever holds the key --------------------------------------------------------------------------------


def signed_log(*entries: tuple[str, int, str]) -> list[str]:
    """Return the bodies of rows of a log whose writer ignores every rule: (session, seq, prev) each."""
    return [
        place(an_entry(session), row_id=number, seq=seq, prev=prev, at="2026-01-01T00:00:00+00:00", after=())[
            1
        ].decode()
        for number, (session, seq, prev) in enumerate(entries, 1)
    ]


def receipt_of(bodies: list[str], *shown: int, index: int | None = None) -> Receipt:
    """Return a receipt of some rows of a log, properly signed and with a good proof of the last of them."""
    from donewhen.merkle import inclusion_proof

    leaves = [leaf_hash(body.encode()) for body in bodies]
    frontier, nodes = Frontier(), {}
    for number, leaf in enumerate(leaves):
        nodes.update({(level, number >> level): node for level, node in enumerate(frontier.append(leaf))})
    note = sign_note(Checkpoint(ORIGIN, len(leaves), frontier.root()).text(), SIGNER)
    last = shown[-1] - 1 if index is None else index
    path = inclusion_proof(last, len(leaves), lambda level, place: nodes[level, place])
    return Receipt(bodies=tuple([bodies[row - 1] for row in shown]), index=last, proof=tuple(path), note=note)


def leaf(body: str) -> str:
    return link(leaf_hash(body.encode()))


NONE = GENESIS
FIRST = signed_log(("s", 1, NONE))[0]
GOOD = signed_log(("s", 1, NONE), ("s", 2, leaf(FIRST)), ("t", 1, NONE))


def test_a_proper_log_of_our_own_making_is_proven() -> None:
    assert [row.seq for row in proven(receipt_of(GOOD, 1, 2)).rows] == [1, 2]
    assert [row.seq for row in proven(receipt_of(GOOD, 2)).rows] == [2]


@pytest.mark.parametrize(
    ("bodies", "shown", "fault"),
    [
        (GOOD, (2, 1), "missing or moved"),
        (GOOD, (1, 1), "missing or moved"),
        (GOOD, (1, 3), "missing or moved"),
        (signed_log(("s", 1, NONE), ("s", 2, "1" * 64)), (1, 2), "follows another row"),
        (signed_log(("s", 1, NONE), ("s", 3, leaf(FIRST))), (1, 2), "missing or moved"),
        (signed_log(("s", 1, "1" * 64)), (1,), "first of a session"),
        (signed_log(("s", 2, NONE)), (1,), "first of a session"),
        (signed_log(("s", 0, "1" * 64)), (1,), "first of a session"),
    ],
)
def test_the_chain_is_held_against_every_row_whoever_signed(bodies: list[str], shown: Any, fault: str) -> None:
    with pytest.raises(LedgerTamperedError, match=fault):
        proven(receipt_of(bodies, *shown))


def test_a_proof_of_another_row_is_refused() -> None:
    with pytest.raises(LedgerTamperedError, match="the proof is of row 3"):
        proven(receipt_of(GOOD, 2, index=2))


def test_a_row_that_says_another_place_is_refused() -> None:
    moved = [GOOD[1].replace('"seq":2', '"seq":1').replace(leaf(FIRST), NONE)]
    with pytest.raises(LedgerTamperedError, match="the proof is of row 1"):
        proven(receipt_of(moved, 1))


# -- one spelling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("donewhen.receipt/v1", "donewhen.receipt/v2"),
        ("\n\nc2sp", "\n\n\nc2sp"),
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("proof@v1\n", "proof@v1\nextra eA==\n"),
        ("index 10", "index 010"),
        ("index 10", "index  10"),
        ("index 10", "index +10"),
        ("index 10", "index \u0661\u0660"),
        ("index 10", "index 99999999999999999999"),
        ("index 10\n", "index 10\nAAAA\n"),
        ("index 10\n", "index 10\n\n"),
        ("\n", "\r\n"),
        ('{"at"', ' {"at"'),
        ('{"at"', '{"after":[],"at"'),
        ('"at"', '"\\u0061t"'),
        ("11\n", "011\n"),
        ("— ", "—  "),
    ],
)
def test_every_other_spelling_is_refused(ledger: Ledger, old: str, new: str) -> None:
    text = make_receipt(ledger, "session-0").dumps().decode()
    assert old in text
    with pytest.raises((LedgerFormatError, LedgerTamperedError)):
        proven(text.replace(old, new, 1).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"donewhen.receipt/v1",
        b"donewhen.receipt/v1\n\n\n\n",
        b"\xff\xfe",
        b"\xef\xbb\xbfdonewhen.receipt/v1",
    ],
)
def test_what_is_no_receipt_is_told(data: bytes) -> None:
    with pytest.raises(LedgerFormatError):
        proven(data)


def test_a_receipt_that_is_too_large_is_not_read() -> None:
    with pytest.raises(LedgerFormatError, match="at most"):
        Receipt.loads(b"x" * (MOST_BYTES + 1))


def test_the_form_of_the_file_is_the_documented_one(ledger: Ledger) -> None:
    text = make_receipt(ledger, "session-1").dumps().decode()
    rows, proof, checkpoint, signature = text.split("\n\n")
    first, *bodies = rows.split("\n")
    assert first == "donewhen.receipt/v1"
    assert [decode(body, strict=True) for body in bodies] == ledger.rows("session-1")
    assert re.fullmatch(r"c2sp\.org/tlog-proof@v1\nindex 7(\n[A-Za-z0-9+/]{43}=)+", proof)
    assert re.fullmatch(rf"{ledger.origin}\n11\n[A-Za-z0-9+/]{{43}}=", checkpoint)
    assert re.fullmatch(rf"— {ledger.origin} [A-Za-z0-9+/=]+\n", signature)
