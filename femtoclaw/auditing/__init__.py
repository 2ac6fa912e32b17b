"""The audit of a node: what auditors ask, take away, keep, and certify; each answer with the range that was verified for it.

Five layers (AUDIT-3.1), each in a place of its own: collection is the authority's append, storage is the log, integrity is
``verified_range``, query and inspection are ``questions``, ``operator_actions`` and ``tracing``, certification is
``certificate``. Nothing here writes to the log but by procedures that an operator signs.
"""
