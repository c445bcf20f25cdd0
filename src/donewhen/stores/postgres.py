"""The store on PostgreSQL: one database, many logs, any number of machines.

A store object is bound to one log. Whoever writes to a log takes its advisory lock first, in the order of asking, and has
it until the commit; logs share no lock, so they are written to side by side. A commit that returned survives what the
server's own commits survive. A connection that is lost is made again by whoever needs one next. If it was lost while a
commit was under way, the log is looked at, under its lock, before anything is said of what is stored.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import datetime
from typing import Any, TypeVar

import psycopg

from donewhen.arguments import is_storable
from donewhen.entry import LOG_SESSION
from donewhen.errors import LedgerError, LedgerFormatError, LedgerUnavailableError
from donewhen.notes import Signer, Verifier
from donewhen.stores import Cosigned, Sealed, forks
from donewhen.stores import postgres_sql as sql
from donewhen.stores.log import LogState, check_signer, current_key, log_verifier, new_origin, seal_nothing
from donewhen.stores.postgres_connections import Link, Pool, connect, is_lost, roll_back, send, translate
from donewhen.stores.postgres_init import find_version
from donewhen.stores.postgres_reads import PostgresReads, key_of, session_of
from donewhen.stores.postgres_schema import MIGRATIONS
from donewhen.stores.postgres_transaction import PostgresTransaction, SealedStates, Touched
from donewhen.stores.postgres_url import parse_url

WAIT_SECONDS = 30.0
"""How long a writer waits for its turn before it says that the store is not available."""

FORK_WAIT_SECONDS = 5.0
"""How long a fork waits for a thread that is writing."""

MOST_RECENT = 8
"""How many sessions and budgets are asked about with the lock: a process has few at a time."""

MOST_KNOWN = 1024
"""How many sessions and budgets are remembered between transactions."""

MOST_STATES = 64
"""How many sealed states that others added are asked for with the lock."""

_KEYS = key_of(LOG_SESSION)

_Result = TypeVar("_Result")


class PostgresStore(PostgresReads):
    """One log of a ledger on PostgreSQL.

    Args:
        url: the database and, after a ``#``, the log; see `donewhen.stores.postgres_url`.
        signer: signs the log's checkpoints; None: an unsigned log.
        now: aware UTC, for the rows' ``at``.
        random: so many random bytes, for the name of a new log.
        read_only: never write, nor begin the log.
        wait_seconds: the longest wait for another writer.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
        LedgerFormatError: it has no ledger's schema, or a newer one; or, to read only, no such log.
        LedgerError: the log has a key and `signer` is not the one it has now, or it has none and a signer was given.
    """

    def __init__(
        self,
        url: str,
        *,
        signer: Signer | None,
        now: Callable[[], datetime],
        random: Callable[[int], bytes],
        read_only: bool = False,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._address = parse_url(url)
        self.path = self._address.shown
        self.address = self._address.url
        self.origin = ""
        self.vkey: str | None = None
        self._name = self._address.log
        self._lock_key = int.from_bytes(
            hashlib.sha256(f"donewhen/log/{self._name}".encode()).digest()[:8], "big", signed=True
        )
        self._signer = signer
        self._now = now
        self._random = random
        self._read_only = read_only
        self._wait_seconds = wait_seconds
        self._write_lock = threading.RLock()
        self._is_writing = False
        self._started = ""
        self._can_prepare = False
        self._known: dict[str, Touched] = {}
        self._states = SealedStates(self._name)
        self._pool = self._parents = self._make_pool()
        try:
            with self._translated():
                self._log = self._try_twice(self._load_log)
        except BaseException:
            self._pool.close()
            raise
        forks.watch(self)

    def writing(self) -> AbstractContextManager[PostgresTransaction]:
        """Open the one way to write; see `donewhen.stores.Store`."""
        return self._writing()

    def put_cosigned(self, *cosigned: Cosigned) -> None:
        """Keep cosignatures of stored checkpoints; one that is there already is not kept twice."""
        with self.writing() as transaction:
            for one in cosigned:
                transaction.put_cosigned(one)

    def scrub(self) -> bool:
        """Let PostgreSQL write the table of texts anew, without what was erased; False where this role may not.

        The owner may. Who else reads texts meanwhile waits. What the server's own log and its backups hold of them is
        not reached.
        """
        with self._translated():
            is_owner = self._read(sql.IS_OWNER)[0][0]
            if is_owner:
                self._try_twice(lambda connection: connection.execute("VACUUM (FULL) donewhen.texts"))
            return is_owner

    def close(self) -> None:
        """Close every connection."""
        with self._write_lock:
            self._pool.close()

    # -- forking ---------------------------------------------------------------------------------------------------

    def pause_for_fork(self) -> bool:
        """Keep writers out; False in a transaction, which cannot be paused."""
        if not self._write_lock.acquire(timeout=FORK_WAIT_SECONDS):
            return False
        if not self._is_writing:
            return True
        self._write_lock.release()
        return False

    def resume_after_fork(self) -> None:
        """Let writers in again."""
        self._write_lock.release()

    def start_as_child(self) -> None:
        """Leave the transaction that is under way to the parent: its threads are not here."""
        self._write_lock = threading.RLock()
        self._is_writing = False

    # -- connections -------------------------------------------------------------------------------------------------

    def _connect(self) -> Link:
        connection, self._started = connect(self._address, self._wait_seconds)
        connection.execute(sql.PLAN_ONCE)
        if self._can_prepare:
            connection.execute(sql.PREPARE)
        return connection

    def _own_pool(self) -> Pool:
        """Return the connections of this process; after a fork it makes its own."""
        if self._pool.pid != os.getpid():
            self._parents = self._pool  # kept for as long as this process lives, so that nothing of it is closed here
            self._pool = self._make_pool()
        return self._pool

    def _make_pool(self) -> Pool:
        # The pool must not keep the store alive: one that is dropped closes its connections.
        store = weakref.ref(self)

        def connect_for() -> Link:
            owner = store()
            assert owner is not None
            return owner._connect()

        pool = Pool(self.path, connect_for, self._wait_seconds)
        weakref.finalize(self, pool.close)
        return pool

    def _read(self, query: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        given = {"log": self._name, **(parameters or {})}
        if any("\0" in text or not is_storable(text) for text in given.values() if isinstance(text, str)):
            return []  # no row has it, since no row can
        with self._translated():
            return self._try_twice(lambda connection: connection.execute(query.encode(), given, binary=True).fetchall())

    def _try_twice(self, do: Callable[[Link], _Result]) -> _Result:
        """Do what writes nothing; again, where the connection was lost, perhaps long before."""
        pool = self._own_pool()
        connection = pool.take()
        try:
            return do(connection)
        except psycopg.Error as error:
            if not is_lost(connection, error):
                raise
        finally:
            pool.give_back(connection)
        pool.close()  # the others are of the same time
        with pool.lend() as connection:
            return do(connection)

    def _load_log(self, connection: Link) -> LogState:
        if find_version(connection) < len(MIGRATIONS):
            raise LedgerFormatError(
                f"{self.path} holds no ledger of this version. 'donewhen store init URL' makes it, as a role that may."
            )
        if not self._read_only and not self._can_prepare:
            connection.execute(sql.PREPARE)  # not before, where there may be no table that it names
            self._can_prepare = True
        found = connection.execute(sql.LOG, (self._name,)).fetchone()
        if found is None:
            found = self._begin_log(connection)
        self.origin, self.vkey = found
        if not self._read_only:
            check_signer(self.path, self.origin, self._signer, current_key(self.vkey, self._key_rows(connection, 0)))
        return LogState(self.origin, self._signer, None if self.vkey is None else Verifier.parse(self.vkey))

    def _begin_log(self, connection: Link) -> tuple[Any, ...]:
        if self._read_only:
            logs = [log for (log,) in connection.execute(sql.LOGS)]
            has = f"It has {', '.join(logs)}" if logs else "It has none yet"
            raise LedgerFormatError(
                f"{self.path} holds no ledger: there is no log {self._name!r} in this database. {has}"
            )
        with connection.transaction():
            connection.execute(sql.LOCK, (self._lock_key,))
            found = connection.execute(sql.LOG, (self._name,)).fetchone()  # again: another process may have been faster
            if found is None:
                origin = new_origin(self._random)
                found = origin, None if self._signer is None else log_verifier(origin, self._signer).vkey
                connection.execute(sql.NEW_LOG, (self._name, *found))
                send(connection, (sql.SEAL, (self._name, 0, 0, seal_nothing(origin, self._signer).note, b"")))
        return found

    def _key_rows(self, connection: Link, after: int) -> list[tuple[int, str]]:
        return connection.execute(sql.KEY_ROWS, (self._name, _KEYS, after)).fetchall()

    # -- one transaction ---------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Generator[None, None, None]:
        """Keep this process's other threads out, and this one from writing within what it writes."""
        if self._read_only:
            raise LedgerUnavailableError(self.path, "the ledger was opened for reading only")
        lock = self._write_lock
        if not lock.acquire(timeout=self._wait_seconds):
            raise LedgerUnavailableError(self.path, f"another thread has been writing for {self._wait_seconds} s")
        try:
            if self._is_writing:
                raise LedgerError("this thread is in a transaction of this ledger already")
            self._is_writing = True
            try:
                yield
            finally:
                self._is_writing = False
        finally:
            lock.release()

    @contextmanager
    def _writing(self) -> Generator[PostgresTransaction, None, None]:
        pid = os.getpid()
        with self._translated(), self._alone():
            pool = self._own_pool()
            connection, transaction = self._begin(pool)
            try:
                yield transaction
                if os.getpid() != pid:
                    raise LedgerError("the process was forked in a transaction, which is the parent's to end")
                self._commit(connection, transaction)
            finally:
                transaction.is_over = True
                if os.getpid() == pid:
                    roll_back(connection)
                    pool.give_back(connection)

    def _begin(self, pool: Pool) -> tuple[Link, PostgresTransaction]:
        """Begin a transaction that has the log's lock. A connection that was lost meanwhile is made again, once."""
        for is_last in (False, True):
            connection = pool.take()
            try:
                return connection, self._begin_on(connection)
            except BaseException as error:
                is_final = is_last or not is_lost(connection, error)
                roll_back(connection)
                pool.give_back(connection)
                if is_final:
                    raise
            pool.close()  # the others are of the same time
        raise AssertionError("unreachable")

    def _begin_on(self, connection: Link) -> PostgresTransaction:
        log, name = self._log, self._name
        recent = dict(list(self._known.items())[-MOST_RECENT:])
        # Each sees what was committed before it, so what is asked after the lock is newer than what it waited for.
        found = send(
            connection,
            (sql.BEGIN, ()),
            (sql.LOCK, (self._lock_key,)),
            (sql.STATE, (name, _KEYS, log.size, MOST_STATES)),
            (sql.NEWEST, self._asked(recent)),
        )
        found.nextset()
        found.nextset()
        has_changed = self._catch_up(connection, found.fetchall())
        if has_changed:
            self._known = recent
        find, at = self._states.finder(connection), self._now().isoformat()
        transaction = PostgresTransaction(connection, name, self._known, find, log.size, at)
        if has_changed and found.nextset():
            for key, *row in found:
                transaction.learn(session_of(key), *row)
        return transaction

    def _asked(self, recent: Mapping[str, Touched]) -> tuple[str, ...]:
        names = sql.array_of(key_of(name) for name in recent)
        own, other = ([one.own_id for one in recent.values()], [one.other_id for one in recent.values()])
        return self._name, names, sql.array_of(own), sql.array_of(other)

    def _catch_up(self, connection: Link, found: Sequence[tuple[Any, ...]]) -> bool:
        """Hold what is stored against what was signed; tell whether somebody else has written."""
        rows, has_keys = found[0][:2]
        states = [Sealed(*state) for _, _, *state in found if state[0] is not None]
        newest = (states[-1].size, states[-1].note) if states else None
        if len(states) == MOST_STATES or not states:
            newest = connection.execute(sql.NEWEST_SEALED, (self._name,)).fetchone()
        self._states.learn(states)

        def key_rows(after: int) -> list[tuple[int, str]]:
            return self._key_rows(connection, after) if has_keys else []

        return self._log.catch_up(rows or 0, newest, self._states.finder(connection), key_rows)

    def _commit(self, connection: Link, transaction: PostgresTransaction) -> None:
        if not transaction.leaves:
            if transaction.has_more:
                transaction.write((sql.COMMIT, ()))  # no row is added, so there is nothing to seal
            return
        log, successor = self._log, transaction.successor
        sealed, frontier = log.extend(transaction.leaves, transaction.sealed_at, successor)
        # A crash before the commit has reached the server leaves nothing; once it is done, all of it, sealed.
        try:
            seal = (sql.SEAL, (self._name, sealed.size, sealed.start, sealed.note, sealed.nodes))
            transaction.write(seal, (sql.COMMIT, ()))
        except psycopg.Error as error:
            if not is_lost(connection, error):
                raise  # the server has refused it
            stored = self._is_stored(sealed)
            said = " ".join(str(error).split())
            raise LedgerUnavailableError(
                self.path, f"the connection was lost at the commit ({said})", stored=stored
            ) from error
        log.commit(sealed, frontier, successor)
        self._states.learn((sealed,))
        transaction.committed()
        if len(self._known) > MOST_KNOWN:
            self._known = dict(list(self._known.items())[-MOST_RECENT:])

    def _is_stored(self, sealed: Sealed) -> bool | None:
        """Tell whether a commit is stored whose connection was lost; None where nobody can know.

        The log's lock is free only once the lost transaction has come to its end, one way or the other. So who has it
        sees what came of it, if this is the server that the commit was sent to and not one that has taken its place.
        """
        started = self._started
        try:
            with closing(self._connect()) as connection:
                connection.execute(sql.BEGIN)
                connection.execute(sql.LOCK, (self._lock_key,))
                found = connection.execute(sql.NOTE, (self._name, sealed.size)).fetchone()
                connection.execute("ROLLBACK")
        except psycopg.Error:
            return None
        if found is not None and found[0] == sealed.note:
            return True
        return False if self._started == started else None

    @contextmanager
    def _translated(self) -> Generator[None, None, None]:
        """Turn the database's and the system's errors into ours."""
        try:
            yield
        except psycopg.Error as error:
            raise translate(self.path, error) from error
