"""What runs before anything was verified: the standard library and these few modules, nothing else."""
