"""Where versions come from, what they changed, and which one to go back to."""
