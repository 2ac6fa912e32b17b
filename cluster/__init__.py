"""Replication of a log between nodes. Imports ``wal`` only.

The protocol core, its gRPC shell and the coordinators are not written yet; ``docs/architecture.md`` says where
they will stand and what they may import.
"""
