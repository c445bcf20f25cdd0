"""Signers that are not a key in this process: one behind a socket, and what it remembers."""
