"""The command line: parsing, rendering, exit codes. Decides nothing; each noun has its own module."""
