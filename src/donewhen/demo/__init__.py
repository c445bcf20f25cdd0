"""What `donewhen demo` shows: a small site with real faults, and scenes in which each promise is kept."""
