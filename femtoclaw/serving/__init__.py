"""A node that stays open: alone, or as a member of a cluster that executes while it leads."""
