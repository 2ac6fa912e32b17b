"""Generated from ``proto/cluster/v1/``: ``scripts/protoc`` makes it, ``cluster.codec`` alone imports it."""
