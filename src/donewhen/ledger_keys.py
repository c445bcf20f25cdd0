"""What a ledger writes about keys: that its log is handed on to another, and whose keys its reviewers have.

Each is one row in the log's own session, signed like every row by the key that the log has at that moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from donewhen import arguments
from donewhen.entry import LOG_SESSION, Entry, LedgerRow
from donewhen.errors import LedgerError
from donewhen.keyring import ENROLL, KIND, REVOKE, ROTATE, Keyring
from donewhen.notes import Verifier
from donewhen.stores.log import log_verifier

if TYPE_CHECKING:
    from donewhen.notes import Signer
    from donewhen.stores import Store


class KeyLedger:
    """The part of `donewhen.ledger.Ledger` that writes about keys."""

    _store: Store

    def rotate_key(self, new_signer: Signer, *, why: str, who: str, made_by: str = "") -> LedgerRow:
        """Hand the log on to another key, by the last row that the old one signs.

        The new key signs that row's checkpoint too, before it is stored: a key that cannot sign is found out in time.
        On return this ledger writes with the new key. Others that have the log open are refused at their next write.

        Args:
            new_signer: holds the new key, which must be safe on disk already.
            why: the reason.
            who: the person, in their own words.
            made_by: ``user@host`` where the new key was made; empty where nobody knows.

        Raises:
            ValueError: nobody says who or why.
            LedgerError: the ledger is unsigned, or the key was the log's before or is a reviewer's.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
        """
        vkey = log_verifier(self._store.origin, new_signer).vkey
        data = {"action": ROTATE, "vkey": vkey, "why": arguments.said("why", why), **_signed_by(who, made_by)}
        with self._store.writing() as tx:
            # Nobody else writes while this transaction is open, so what is read here is still so when it ends.
            keyring = Keyring.read(self._store)
            old = keyring.current_log_key(self._store.vkey)
            if old is None:
                raise LedgerError(
                    f"{self._store.path} was begun without a key, so there is none to rotate. Begin a new ledger with "
                    "a key, and keep this one as it is."
                )
            self._refuse_known(keyring, vkey)
            row = tx.append(_entry({**data, "old": old}), ())
            tx.hand_over(new_signer)
        return row

    def enroll_reviewer(self, name: str, vkey: str, *, who: str, made_by: str = "") -> LedgerRow:
        """Write that a public key is a reviewer's. It counts for what is written from now on.

        Args:
            name: the reviewer. One name has one key at a time.
            vkey: the reviewer's public key, as `Verifier.parse` reads it.
            who: who enrols it.
            made_by: ``user@host`` where the key was made, as its file says.

        Raises:
            ValueError: the name or `who` is blank.
            CheckpointError: `vkey` is not a public key.
            LedgerError: the key is or was the log's or a reviewer's, or the name has a key.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
        """
        Verifier.parse(vkey)
        data = {"action": ENROLL, "name": arguments.said("name", name), "vkey": vkey, **_signed_by(who, made_by)}
        with self._store.writing() as tx:
            keyring = Keyring.read(self._store)
            self._refuse_known(keyring, vkey)
            other = keyring.key_of(name)
            if other is not None:
                raise LedgerError(
                    f"the reviewer {name!r} has a key already, {other}. Revoke that one first, or enrol this one under "
                    "another name."
                )
            return tx.append(_entry(data), ())

    def revoke_reviewer(self, vkey: str, *, why: str, who: str) -> LedgerRow:
        """Write that a reviewer's key counts no more. What it signed before this row still counts.

        Args:
            vkey: the reviewer's public key.
            why: the reason.
            who: who revokes it.

        Raises:
            ValueError: nobody says who or why.
            LedgerError: the key was never enrolled, or is revoked already.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
        """
        data = {"action": REVOKE, "vkey": arguments.text("vkey", vkey), "why": arguments.said("why", why)}
        data |= _signed_by(who, "")
        with self._store.writing() as tx:
            keyring = Keyring.read(self._store)
            if vkey not in keyring.reviewers_at():
                done = keyring.revocation_of(vkey)
                known = "was never enrolled" if done is None else f"was revoked already, in row {done.row_id}"
                raise LedgerError(f"the key {vkey} {known}: there is nothing to revoke.")
            return tx.append(_entry(data), ())

    def _refuse_known(self, keyring: Keyring, vkey: str) -> None:
        """Refuse a key that the log knows: of two who must be different people or machines, none may be the other."""
        known = Verifier.parse(vkey).public_key
        for _, log_key in keyring.log_keys(self._store.vkey):
            if Verifier.parse(log_key).public_key == known:
                raise LedgerError(
                    f"{vkey} is or was the key of this log. Whoever signs the log's rows must not sign as a reviewer, "
                    "and a key that was given up is not taken up again: make a new key."
                )
        for change in keyring.changes:
            if change.action == ENROLL and change.public_key == known:
                is_revoked = change.vkey not in keyring.reviewers_at()
                then = "and was revoked since: make a new key" if is_revoked else "so it is enrolled already"
                raise LedgerError(f"{vkey} is the key of the reviewer {change.name!r}, {then}.")


def _entry(data: dict[str, str]) -> Entry:
    return Entry(kind=KIND, session_id=LOG_SESSION, state_origin=KIND, data=data)


def _signed_by(who: str, made_by: str) -> dict[str, str]:
    said = {"who": arguments.said("who", who)}
    return {**said, "made_by": arguments.text("made_by", made_by)} if made_by else said
