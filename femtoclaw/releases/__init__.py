"""Releases of the program: one signed file each, put side by side, and switched to in one step."""
