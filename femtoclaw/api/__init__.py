"""The interface of a running node (``proto/femtoclaw/v1``), and the command line that goes through it.

Nothing here is loaded for a home that nobody serves; gRPC and protobuf only where a connection is made or taken.
"""
