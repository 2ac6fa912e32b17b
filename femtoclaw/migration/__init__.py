"""Bringing a home of an earlier format to the present one: built beside, verified, switched to in one step."""
