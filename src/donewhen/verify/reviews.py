"""What people said of sessions, and what was done on their word: attestations, rejections, releases, held calls, keys.

A signed word must be what its reviewer signed, about this session of this log, with a key that was theirs at that place.
A release, and a held call that is taken up, must have been let pass by the words before it, by the session's own policy:
judged again here, by the same rules, as of the moment at which the row was written.

What is only a name, and where two keys may be in one hand, is told. It is no fault.

Source: docs/ledger_format.md, docs/review.md.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from donewhen.attestation import Statement, signer_of
from donewhen.dsse import loads
from donewhen.entry import LedgerRow, decode
from donewhen.errors import DonewhenError, LedgerTamperedError, MissingExtraError
from donewhen.framing import Record, frame_of, output_of
from donewhen.keyring import ENROLL, REVOKE, Keyring
from donewhen.outbox import release_key
from donewhen.outbox.readiness import BEGUN, DONE, FAILED
from donewhen.policy import Grounds, Output
from donewhen.progress import read_progress
from donewhen.texts import ERASED_SALT, encode_text
from donewhen.verify.chain import data_of, wrong
from donewhen.verify.row import Row
from donewhen.verify.source import Source

# What hostile rows can raise where they are read as honest ones are: they were verified in their form, not in their sense.
_UNREADABLE = (DonewhenError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

MOST_STARTERS = 1000
"""How many users on how many hosts are remembered."""

Look = Callable[[Row], None]
"""Looks at a row of one kind, after it was found to follow from those before it."""


class Reviews:
    """Judges the rows that people are behind, in their order.

    Args:
        source: where the log is read from.
        keyring: the keys of the log, and of its reviewers.
        origin: the log's name.
        log_vkey: the key that the log was begun with; None: unsigned.
    """

    def __init__(self, source: Source, keyring: Keyring, origin: str, log_vkey: str | None) -> None:
        self.signed = 0
        """Words with a signature that is good."""
        self.named = 0
        """Words that are only a name."""
        self.releases = 0
        """Outputs that were handed on."""
        self._source = source
        self._keyring = keyring
        self._origin = origin
        self._log_vkey = log_vkey
        self._changes = {change.row_id: change for change in keyring.changes}
        self._enrolled: dict[str, str] = {}
        self._policy: tuple[str, object] = ("", None)
        """The session of the newest policy, and who started it."""
        self._starters: set[str] = set()
        """``user@host`` of those under whom sessions ran, as far as rows say so."""

    @property
    def looks(self) -> Mapping[str, Look]:
        """Return what looks at rows, by their kind."""
        return {
            "key": self._look_at_key,
            "attest": self._look_at_word,
            "reject": self._look_at_word,
            "policy": self._look_at_policy,
            "open": self._look_at_open,
            "release": self._look_at_release,
        }

    # -- keys and words --------------------------------------------------------------------------------------------

    def _look_at_key(self, row: Row) -> None:
        change = self._changes.get(row["id"])
        if change is None:
            raise wrong(row, "it is a key row that the index of its session does not list")
        if change.action == ENROLL:
            if change.vkey in self._enrolled:
                raise wrong(row, f"the key of {change.name!r} is enrolled already")
            self._enrolled[change.vkey] = change.name
        elif change.action == REVOKE and self._enrolled.pop(change.vkey, None) is None:
            raise wrong(row, "it revokes a key that no reviewer has")

    def _look_at_word(self, row: Row) -> None:
        data = data_of(row)
        reviewer = data.get("reviewer")
        if type(reviewer) is not str or not reviewer.strip():
            raise wrong(row, f"nobody is behind this {row['kind']} row: {reviewer!r}")
        if "envelope" not in data:
            self.named += 1
            return
        with _reading(row, "the word that it holds is not a reviewer's"):
            self._verify_word(row, data)
        self.signed += 1

    def _verify_word(self, row: Row, data: Mapping[str, Any]) -> None:
        """Hold a row against what was signed."""
        envelope = loads(data["envelope"])
        statement = Statement.read(envelope)
        if statement.decision != row["kind"] or statement.entry(envelope).data != data:
            raise wrong(row, "it says something else than what was signed")
        if statement.session_id != row["session"] or statement.origin != self._origin:
            where = f"session {statement.session_id} of {statement.origin}"
            raise wrong(row, f"what was signed is about {where}, and not about this one")
        theirs = [vkey for vkey, name in self._enrolled.items() if name == statement.reviewer]
        if signer_of(envelope, theirs) is None:
            raise wrong(row, f"no key that was enrolled for {statement.reviewer!r} by then signed it")

    # -- what was done on their word -------------------------------------------------------------------------------

    def _look_at_policy(self, row: Row) -> None:
        self._policy = row["session"], data_of(row).get("started_by")

    def _look_at_open(self, row: Row) -> None:
        """See that the held calls which an opening takes up had been let pass by then."""
        session, starter = self._policy
        if session == row["session"] and len(self._starters) < MOST_STARTERS:
            host = str(row["data"].get("owner")).rpartition(":")[0].rpartition(":")[0]
            self._starters.add(f"{starter}@{host}")
        runs: Sequence[str] = row["data"].get("runs", ())
        if not runs:
            return
        with _reading(row, "the calls that it takes up cannot be judged"):
            *earlier, _ = self._session(row)
            # Whoever opened it judged what had expired by a clock that nobody can ask again.
            before = read_progress(earlier, self._grounds(earlier[-1].created_at))
        if before is None or not set(before.runs_now).issuperset(runs):
            raise wrong(row, "it takes up held calls that nobody had let pass")

    def _look_at_release(self, row: Row) -> None:
        data = data_of(row)
        with _reading(row, "it cannot be judged whether this release was allowed"):
            *earlier, this = self._session(row)
            past = [one for one in earlier if one.kind == "release" and one.data["key"] == data["key"]]
            if data["key"] != release_key(row["session"], data["output_hash"], data["target"]):
                raise wrong(row, "its key is not that of its session, output and target")
            if any(one.data["state"] == DONE for one in past):
                raise wrong(row, f"the same output was handed to {data['target']!r} before")
            if data["state"] == BEGUN:
                self._judge(row, this, earlier)
            else:
                self._end(row, data, past)
        self.releases += int(data["state"] == DONE)

    def _judge(self, row: Row, this: LedgerRow, earlier: Sequence[LedgerRow]) -> None:
        """See that a release was allowed by the words before it, about the frame that there was."""
        data = this.data
        grounds = self._grounds(this.created_at)
        judgement = grounds.judge(earlier, Output(data["frame_hash"], data["output_hash"]))
        if not judgement.released_ok:
            raise wrong(row, f"nothing allowed this release: {judgement.sentence}")
        if data["attests"] != [word.row_id for word in judgement.counted]:
            raise wrong(row, f"it names the attestations {data['attests']!r}, which are not those that count")
        frame = self._frame(row, earlier, grounds)
        if frame is not None and frame != (data["frame_hash"], data["output_hash"], data["bytes"]):
            raise wrong(row, "what it releases is not what the session had come to")

    def _end(self, row: Row, data: Mapping[str, Any], past: Sequence[LedgerRow]) -> None:
        """See that what says how a release ended is about one that had begun, and ends it once."""
        if data["state"] not in (DONE, FAILED):
            raise wrong(row, f"no release is {data['state']!r}")
        if not any(one.data["state"] == BEGUN and one.seq == data["begun"] for one in past):
            raise wrong(row, f"it ends a release that did not begin in row {data['begun']!r} of its session")
        if any(one.data.get("begun") == data["begun"] for one in past):
            raise wrong(row, f"the release that began in row {data['begun']} has ended before")

    def _frame(self, row: Row, rows: Sequence[LedgerRow], grounds: Grounds) -> tuple[str, str | None, int] | None:
        """Return the hash of the frame that there was, with its output's hash and size; None: a text of it was erased."""
        there, kept = self._source.erasable(row["session"], row["id"])
        if there != kept:
            return None
        spec = next((one for one in rows if one.kind == "spec"), None)
        if spec is None:
            raise wrong(row, "it releases what nobody promised")
        record = Record(
            rows=rows,
            spec=spec,
            differs=False,
            unsigned=self._log_vkey is None,
            find_text=self._find_text,
            grounds=grounds,
        )
        frame = frame_of(record)
        return frame.frame_hash, output_of(frame).output_hash, len(encode_text(frame.output or ""))

    def _session(self, row: Row) -> list[LedgerRow]:
        """Return a session's rows up to this one. They were verified before it."""
        return [decode(body) for _, body in self._source.bodies_of(row["session"], row["id"])]

    def _find_text(self, row: LedgerRow, label: str) -> str | None:
        found = self._source.find_text(row.id, label)
        if found is None or found[0] == ERASED_SALT:
            return None
        return found[1].decode("utf-8", "surrogatepass")

    def _grounds(self, at: str) -> Grounds:
        return Grounds(
            keyring=self._keyring, origin=self._origin, now=datetime.fromisoformat(at), log_vkey=self._log_vkey
        )

    # -- what nobody has proven ------------------------------------------------------------------------------------

    def warnings(self, key_made_by: str = "") -> list[str]:
        """Return what is odd: names without signatures, and keys that may be in one hand.

        Args:
            key_made_by: ``user@host`` where the log's key was made, where its file says so.
        """
        found: list[str] = []
        if self.named:
            words = (
                "1 word of a reviewer is a name" if self.named == 1 else f"{self.named} words of reviewers are names"
            )
            found.append(f"{words} without a signature: named, not proven")
        log_keys = [vkey for _, vkey in self._keyring.log_keys(self._log_vkey)]
        hands = {change.made_by for change in self._keyring.changes if change.action not in (ENROLL, REVOKE)}
        hands = {made_by for made_by in (*hands, key_made_by) if made_by}
        for change in self._keyring.changes:
            if change.action != ENROLL:
                continue
            if any(_is_same_key(change.vkey, vkey) for vkey in log_keys):
                found.append(f"the key of {change.name} (row {change.row_id}) is the log's own, so it proves no person")
            elif change.made_by in hands:
                found.append(
                    f"the key of {change.name} (row {change.row_id}) and the log's were made by one user on one host, "
                    f"{change.made_by}: whoever could make the rows could make the signatures"
                )
            elif change.made_by in self._starters:
                found.append(
                    f"the key of {change.name} (row {change.row_id}) was made by {change.made_by}, under whom sessions "
                    "ran: an agent may have been able to read it"
                )
        return found


@contextmanager
def _reading(row: Row, problem: str) -> Generator[None, None, None]:
    """Tell what cannot be read of rows as what is wrong with this one."""
    try:
        yield
    except (LedgerTamperedError, MissingExtraError):
        raise
    except _UNREADABLE as error:
        raise wrong(row, f"{problem}: {error!s}" if str(error) else problem) from error


def _is_same_key(one: str, other: str) -> bool:
    # The name stands before it, which may be another one; its own base64 may hold a plus.
    return one.split("+", 2)[-1] == other.split("+", 2)[-1]
