"""Backups of a node: encrypted to a key that is not on it, signed by its own, incremental by sealed segment; and restoring them.

A place (``cluster.archive.ArchiveStore``: a folder or an object store) holds ``backups/<log id>/objects/...``, each written once,
and ``backups/<log id>/manifests/...``. A manifest is put last: what has none is no backup. See ``docs/backup.md``.

Other commands that need a backup call ``creating.create`` inside of a procedure of their own, with ``place.alone`` held.
"""
