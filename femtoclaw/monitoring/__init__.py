"""Looking at a node at work: probes, the monitor that repeats them, and where others ask for them."""
