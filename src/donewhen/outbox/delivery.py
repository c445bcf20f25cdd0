"""Where a released output can go: a file, a webhook, a command. Each takes the exact bytes, and is told a key.

The key is the same however often the same output is handed to the same target, so that a receiver can tell a second
try from a second order. What a target raises says whether the output may have arrived all the same: on that hangs
whether it is tried again by itself.

Source: RFC 9530 (Content-Digest); draft-ietf-httpapi-idempotency-key-header (Idempotency-Key).
"""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from donewhen.arguments import text as storable
from donewhen.errors import DeliveryError
from donewhen.keys import INPUT_KEY_VARIABLE, KEY_VARIABLE, PASSPHRASE_VARIABLE
from donewhen.timeouts import find_timeout_fault

KEY_ENVIRONMENT = "DONEWHEN_IDEMPOTENCY_KEY"
SESSION_ENVIRONMENT = "DONEWHEN_SESSION"

WEBHOOK_SECONDS = 30.0
COMMAND_SECONDS = 600.0

MOST_ANSWER_BYTES = 64 * 1024
"""How much of what a receiver says is read."""

MOST_COMMAND_CHARS = 4000
"""The command line is written into the ledger."""

_SECRETS = (KEY_VARIABLE, PASSPHRASE_VARIABLE, INPUT_KEY_VARIABLE)
_DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What is handed on."""

    session_id: str
    key: str
    """The same for every try to hand this output to this target; lower-case hex."""
    output: bytes
    """Exactly what was attested."""


class Target(Protocol):
    """Takes an output."""

    @property
    def name(self) -> str:
        """Return what the ledger calls it, without secrets; another target has another name."""
        ...

    @property
    def repeats(self) -> bool:
        """Return whether it may be tried again, with the same key, where nobody knows what came of the last try."""
        ...

    def deliver(self, parcel: Parcel) -> str:
        """Hand a parcel on, and return what the receiver said.

        Raises:
            DeliveryError: it could not be; says whether it may have arrived all the same.
        """
        ...


@dataclass(frozen=True, slots=True, init=False)
class ToFile:
    """Write an output into a file that is there whole or not at all.

    A file that is there with just these bytes is left as it is.

    Args:
        path: the file; its folder must be there. A link is followed.
        force: take the place of a file with other content.
    """

    path: Path
    force: bool

    def __init__(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        object.__setattr__(self, "path", Path(os.path.realpath(storable("path", os.fsdecode(path)))))
        object.__setattr__(self, "force", force)

    @property
    def name(self) -> str:
        """Return ``file:`` and the path."""
        return f"file:{self.path}"

    @property
    def repeats(self) -> bool:
        """Return True: the same bytes in the same place are the same file."""
        return True

    def deliver(self, parcel: Parcel) -> str:
        """Write the file; on return it is on disk.

        Raises:
            DeliveryError: there is another file of that name, or it could not be written.
        """
        from donewhen.whole_file import write_whole

        try:
            if self._is_there(parcel.output):
                return "the file was there already"
            write_whole(self.path, parcel.output, replace=self.force)
        except FileExistsError as error:
            raise DeliveryError(self.name, "the name was taken a moment ago") from error
        except OSError as error:
            raise DeliveryError(self.name, f"it cannot be written ({error.strerror or error})") from error
        return ""

    def _is_there(self, output: bytes) -> bool:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(found.st_mode):
            raise DeliveryError(self.name, "there is something of that name which is not a file")
        if found.st_size == len(output) and self.path.read_bytes() == output:
            return True
        if not self.force:
            raise DeliveryError(
                self.name, "there is a file of that name with other content. Name another, or take its place with force"
            )
        return False


@dataclass(frozen=True, slots=True, init=False)
class ToWebhook:
    """Post an output to a URL, once, following nothing. Any status from 200 to 299 means that it was taken.

    The request has the headers ``Idempotency-Key`` and ``Content-Digest``. The ledger names the host and a digest of
    the URL, since the rest of a URL often is a secret.

    Args:
        url: http or https.
        timeout_seconds: for all of it.

    Raises:
        ValueError: the URL cannot be used, or the time limit is none. The message does not show the URL.
    """

    url: str
    timeout_seconds: float

    def __init__(self, url: str, *, timeout_seconds: float = WEBHOOK_SECONDS) -> None:
        from donewhen.posting import read_address

        read_address(url, query=True)
        object.__setattr__(self, "url", url)
        object.__setattr__(self, "timeout_seconds", _time_limit(timeout_seconds))

    def __repr__(self) -> str:
        return f"ToWebhook({self.name})"

    @property
    def name(self) -> str:
        """Return scheme, host and port, and the beginning of the URL's SHA-256."""
        from donewhen.posting import read_address

        address = read_address(self.url, query=True)
        digest = hashlib.sha256(address.url.encode("ascii")).hexdigest()[:_DIGEST_DIGITS]
        return f"webhook:{address.scheme}://{address.authority}#{digest}"

    @property
    def repeats(self) -> bool:
        """Return True: the receiver is told the key, and can see that it has the output already."""
        return True

    def deliver(self, parcel: Parcel) -> str:
        """Post the bytes.

        Raises:
            DeliveryError: nobody answered, or the answer was not that it was taken.
        """
        from donewhen.posting import PostError, post, read_address

        digest = base64.b64encode(hashlib.sha256(parcel.output).digest()).decode("ascii")
        try:
            answer = post(
                read_address(self.url, query=True),
                parcel.output,
                content_type="text/plain; charset=utf-8",
                deadline=time.monotonic() + self.timeout_seconds,
                max_bytes=MOST_ANSWER_BYTES,
                headers={"Idempotency-Key": f'"{parcel.key}"', "Content-Digest": f"sha-256=:{digest}:"},
                is_cut=True,
            )
        except PostError as error:
            raise DeliveryError(self.name, str(error), known=not error.sent) from error
        said = answer.body.decode("utf-8", "replace")
        if not 200 <= answer.status <= 299:
            raise DeliveryError(self.name, f"it answered {answer.status}", True, said)
        return said


@dataclass(frozen=True, slots=True, init=False)
class ToCommand:
    """Run a program with an output on its standard input. Exit status 0 means that it was taken, any other that not.

    No shell is involved. The program has ``DONEWHEN_IDEMPOTENCY_KEY`` and ``DONEWHEN_SESSION`` in its environment, and
    none of donewhen's own secrets. It runs in a process group of its own, which is killed when it ends or its time is
    up. One that was killed may have done its work, so it is not run again by itself.

    Args:
        argv: the program and its arguments. They are written into the ledger: no secrets.
        timeout_seconds: for all of it.
        environ: the environment. None: this process's.

    Raises:
        ValueError: there is no program, a word cannot be stored, or the time limit is none.
    """

    argv: tuple[str, ...]
    timeout_seconds: float
    environ: Mapping[str, str] | None

    def __init__(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float = COMMAND_SECONDS,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(argv, str) or not argv or not argv[0]:
            raise ValueError("a command is a list of words: the program, then its arguments")
        words = tuple([storable("a word of the command", word) for word in argv])
        if len(shlex.join(words)) > MOST_COMMAND_CHARS:
            raise ValueError(f"the command line is longer than the {MOST_COMMAND_CHARS} characters that are recorded")
        object.__setattr__(self, "argv", words)
        object.__setattr__(self, "timeout_seconds", _time_limit(timeout_seconds))
        object.__setattr__(self, "environ", None if environ is None else dict(environ))

    @property
    def name(self) -> str:
        """Return ``command:`` and the command line, as a shell would read it."""
        return f"command:{shlex.join(self.argv)}"

    @property
    def repeats(self) -> bool:
        """Return False: nobody knows what running it twice does."""
        return False

    def deliver(self, parcel: Parcel) -> str:
        """Run the program to its end.

        Raises:
            DeliveryError: it could not be started, ended with another status than 0, or was killed.
        """
        from donewhen.checks.process import ProcessGroup

        try:
            ended = ProcessGroup().run(
                self.argv,
                stdin=parcel.output,
                folder=Path.cwd(),
                environment=self._environment(parcel),
                timeout_seconds=self.timeout_seconds,
                keep_bytes=MOST_ANSWER_BYTES,
            )
        except OSError as error:
            raise DeliveryError(self.name, f"it could not be started ({error.strerror or error})") from error
        said = ended.tail.decode("utf-8", "replace")
        if ended.timed_out:
            problem = f"it was killed after {self.timeout_seconds:g} seconds"
            raise DeliveryError(self.name, problem, False, said)
        if ended.exit_status < 0:
            raise DeliveryError(self.name, f"it was killed by signal {-ended.exit_status}", False, said)
        if ended.exit_status:
            raise DeliveryError(self.name, f"it ended with exit status {ended.exit_status}", True, said)
        return said

    def _environment(self, parcel: Parcel) -> dict[str, str]:
        own = os.environ if self.environ is None else self.environ
        kept = {name: value for name, value in own.items() if name.upper() not in _SECRETS}
        return {**kept, KEY_ENVIRONMENT: parcel.key, SESSION_ENVIRONMENT: parcel.session_id}


def _time_limit(seconds: float) -> float:
    fault = find_timeout_fault(seconds)
    if fault is not None:
        raise ValueError(f"timeout_seconds {fault}, not {seconds!r}")
    return seconds
