"""Packages of modules: read, signed, verified, tried out in the sandbox, and kept.

Nothing is found by looking around: a module is known by the manifest that the log holds, and its files by the digests
in that manifest.
"""
