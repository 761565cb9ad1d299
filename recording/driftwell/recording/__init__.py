"""Recordings: what went over the wire, and what the devices saw, in one MCAP file."""
