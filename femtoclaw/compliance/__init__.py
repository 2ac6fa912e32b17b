"""Compliance as running software: every requirement of the register is looked at on this installation, with evidence."""
