"""Replaying a recording: to a broker, or straight into a cloud."""
