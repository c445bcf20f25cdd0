"""A process that is killed in the middle of a stream. Started by test_crash.py."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anthropic
import openai
from sessions import a_session

from donewhen import Ledger, guard


def main(path: str, url: str, sdk: str) -> None:
    session = a_session(Ledger(Path(path)), tokens=100_000)
    question = [{"role": "user", "content": "hello"}]
    if sdk == "anthropic":
        claude = guard(anthropic.Anthropic(base_url=url, api_key="any"), session)
        events = iter(claude.messages.create(model="m", max_tokens=500, messages=question, stream=True))
    else:
        gpt = guard(openai.OpenAI(base_url=f"{url}/v1", api_key="any"), session)
        events = iter(gpt.chat.completions.create(model="m", max_tokens=500, messages=question, stream=True))
    next(events)
    next(events)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
