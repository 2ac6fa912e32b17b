"""Generated from ``proto/femtoclaw/v1/``: ``scripts/protoc`` makes it, only ``femtoclaw.api`` imports it."""
