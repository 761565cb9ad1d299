"""Devices and their cloud in virtual time: no network, no waiting, the same every time."""
