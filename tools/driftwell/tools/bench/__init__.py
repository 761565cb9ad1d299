"""The bench: what adaptation brings on a recorded stream, and what it costs."""
