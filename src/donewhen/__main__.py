"""The command. Without its extra it still exists, and says which extra to install."""

from __future__ import annotations

import sys

from donewhen.errors import MissingExtraError

EXIT_USAGE = 2


def main() -> None:
    """Run the command line, or say in one line which extra it needs and exit 2."""
    try:
        from donewhen.cli import main as command
    except MissingExtraError as missing:
        problem = missing
    except ModuleNotFoundError as missing:
        # One of our own modules that is not there is a broken installation, which no extra mends.
        if missing.name is None or missing.name.partition(".")[0] == "donewhen":
            raise
        problem = MissingExtraError("cli", "the donewhen command")
    else:
        command()
        return
    sys.stderr.write(f"{problem}\n")
    sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
