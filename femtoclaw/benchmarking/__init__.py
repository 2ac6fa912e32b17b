"""What this machine does with the real parts: nine categories measured on a home of their own, and results compared."""
