"""The messages of a session: what is said and heard, and what is kept of it.

Where the spec keeps the conversation, every message is kept once, beside the row with which it was sent or heard,
outside the log. A session that goes on reads them back in order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from donewhen.bounds import Measured, Request, Transcript
from donewhen.client import Reply, ToolCall
from donewhen.entry import LedgerRow
from donewhen.tools import ToolResult

LABEL = "messages"
HEADER = "header"
"""The label of the digest of what stands before the messages."""

CUT_SHORT = frozenset({"max_tokens", "pause_turn"})
"""Stop reasons after which the next reply continues the text of this one."""


class Conversation:
    """What is said to the model and heard from it.

    Args:
        transcript: empty, with the header of every request.
        kept: whether messages are kept for a session that goes on later.
    """

    def __init__(self, transcript: Transcript, *, kept: bool) -> None:
        self.transcript = transcript
        self.kept = kept
        self.kept_results: dict[str, ToolResult] = {}
        """Results of tools that ran after the newest reply, before the session paused, by call id."""
        self._parts: list[str] = []
        self._goes_on = False
        self._kept_count = 0
        self._kept_header = ""
        self._paused = False

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Return the messages so far."""
        return self.transcript.messages

    def request(self, max_tokens: int) -> Request:
        """Return the request that sends the conversation as it is now."""
        return self.transcript.request(max_tokens)

    def say(self, text: str, notice: str | None = None) -> None:
        """Add a message to the model."""
        self.transcript.append({"role": "user", "content": text if notice is None else f"{text}\n\n{notice}"})

    @property
    def text(self) -> str | None:
        """Return the newest text of the model, with what it continues; None if it has said nothing yet."""
        return "".join(self._parts) or None

    def listen(self, reply: Reply) -> str:
        """Return what a reply says, with what it continues: a reply that was cut off goes on in the next."""
        says = self._goes_on or bool(reply.text)
        if says and not self._goes_on:
            self._parts = []  # a reply without a word leaves the newest text as it is
        self._parts.append(reply.text)
        self._goes_on = reply.stop_reason in CUT_SHORT and not reply.tool_calls
        return "".join(self._parts) if says and not self._goes_on else ""

    def hear(self, reply: Reply) -> dict[str, str]:
        """Add a reply, and return what is to be kept of it beside its row."""
        if reply.content:  # providers refuse an empty message
            self.transcript.append({"role": "assistant", "content": reply.echo})
        return self.unkept()

    def answer(self, results: Sequence[tuple[ToolCall, ToolResult]], notice: str | None = None) -> None:
        """Add the results of all tool calls of a reply, in one message."""
        blocks: list[dict[str, Any]] = []
        for call, result in results:
            block: dict[str, Any] = {"type": "tool_result", "tool_use_id": call.id, "content": result.content}
            blocks.append({**block, "is_error": True} if result.is_error else block)
        if notice is not None:
            blocks.append({"type": "text", "text": notice})
        self.transcript.append({"role": "user", "content": blocks})

    def unkept(self) -> dict[str, str]:
        """Return the messages that no row keeps yet, as a text to keep; nothing where none are kept."""
        messages, count = self.transcript.messages, self._kept_count
        self._kept_count = len(messages)
        if not self.kept or count == len(messages):
            return {}
        new = messages[count:]
        texts = {LABEL: json.dumps(new, ensure_ascii=True)}
        header = self.transcript.digest_at(0).hex()
        if header != self._kept_header:
            # What a provider measured holds only under the same model, system prompt, tools and options.
            texts[HEADER], self._kept_header = header, header
        return texts

    def open_calls(self) -> list[ToolCall]:
        """Return the tool calls of the last message that have no result yet."""
        last = self.messages[-1]
        if last["role"] != "assistant" or isinstance(last["content"], str):
            return []
        return [
            ToolCall(block["id"], block["name"], block["input"])
            for block in last["content"]
            if block.get("type") == "tool_use"
        ]

    def spell_calls(self, calls: Sequence[ToolCall], held: Collection[str]) -> str:
        """Return the exact calls that wait for a person, as JSON."""
        waiting = [
            {"id": call.id, "tool": call.name, "arguments": dict(call.arguments)} for call in calls if call.name in held
        ]
        return json.dumps(waiting, ensure_ascii=True, sort_keys=True)

    def take_up(
        self,
        rows: Sequence[LedgerRow],
        find_text: Callable[[LedgerRow, str], str | None],
        remember: Callable[[Measured], None],
    ) -> None:
        """Read back what was kept.

        Args:
            rows: every row of the session, in order.
            find_text: finds a text kept beside a row.
            remember: takes what a provider measured, so that it need not be bounded again.
        """
        for row in rows:
            texts = row.data.get("texts", {})
            if LABEL in texts:
                kept = find_text(row, LABEL)
                if kept is None:  # erased: half a conversation would be another one
                    self.forget()
                    return
                self._take_up_messages(row, kept, find_text(row, HEADER) if HEADER in texts else None, remember)
            if row.kind == "llm":
                self.kept_results = {}
                self._paused = row.data.get("stop_reason") == "pause_turn"
            if row.kind == "tool" and "result" in texts:
                content = find_text(row, "result")
                if content is not None:
                    self.kept_results[row.data["call"]] = ToolResult(content, row.data["is_error"])
        self._kept_count = len(self.messages)

    def forget(self) -> None:
        """Begin anew."""
        self.transcript = self.transcript.emptied()
        self.kept_results, self._kept_count, self._kept_header, self._paused = {}, 0, "", False

    def take_turn(self) -> None:
        """Say what makes a model go on whose last word was its own; nothing where its turn was only paused."""
        if self.messages[-1]["role"] == "assistant" and not self._paused:
            self.say("continue")

    def _take_up_messages(
        self, row: LedgerRow, kept: str, header: str | None, remember: Callable[[Measured], None]
    ) -> None:
        messages: list[dict[str, Any]] = json.loads(kept)
        for message in messages:
            self.transcript.append(message)
        self._kept_header = header or self._kept_header
        if (
            row.kind == "llm"
            and row.data["usage"] is not None
            and self._kept_header == self.transcript.digest_at(0).hex()
        ):
            count = len(self.messages)
            remember(Measured(self.transcript.digest_at(count), count, row.token_delta))
