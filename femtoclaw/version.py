"""The program's version. Kept apart so that ``--version`` imports nothing else."""

VERSION = "0.1.0"
