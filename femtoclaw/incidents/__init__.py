"""What goes wrong with a node at work: found, put on record, told to people, and answered in six steps."""
