"""`key new --input`: the key that inputs are hashed with."""

from __future__ import annotations

import os

from donewhen.cli.output import put, put_json, say
from donewhen.render import visible


def make_key_for_inputs(*, as_json: bool) -> None:
    """Make it where there is none, and tell where it is. The key itself is never shown."""
    from donewhen.keys import INPUT_KEY_FILE, config_dir, make_input_key
    from donewhen.texts import Hasher

    folder = config_dir(os.environ)
    path = folder / INPUT_KEY_FILE
    was_there = path.exists()
    key_id = Hasher(make_input_key(folder)).key_id
    if as_json:
        put_json({"file": str(path), "input_key": key_id, "was_there": was_there})
        return
    put(key_id or "")
    say(f"{'It was there already' if was_there else 'Made'}: {visible(str(path))}")
    say("New sessions are hashed with it from now on. A session that was opened without it goes on without it only.")
