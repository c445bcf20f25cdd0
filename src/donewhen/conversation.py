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
        """Results of tools that ran before the session paused, by call id."""
        self._kept_count = 0

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
        new = self.messages[self._kept_count :]
        self._kept_count = len(self.messages)
        return {LABEL: json.dumps(new, ensure_ascii=True)} if self.kept and new else {}

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
            kept = find_text(row, LABEL) if LABEL in row.data.get("texts", {}) else None
            messages: list[dict[str, Any]] = json.loads(kept) if kept is not None else []
            for message in messages:
                self.transcript.append(message)
            if row.kind == "tool" and "result" in row.data.get("texts", {}):
                content = find_text(row, "result")
                if content is not None:
                    self.kept_results[row.data["call"]] = ToolResult(content, row.data["is_error"])
            if kept is not None and row.kind == "llm" and row.data["usage"] is not None:
                count = len(self.messages)
                remember(Measured(self.transcript.digest_at(count), count, row.token_delta))
        self._kept_count = len(self.messages)
