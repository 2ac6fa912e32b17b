"""A process that appends to a log until it is killed, telling each acknowledged head to its standard output.

``python writer_process.py DIRECTORY SEED``: after opening it writes one line ``open SIZE``, then one line ``INDEX LINK``
for every receipt, each in a single write so that a kill cannot tear it. Several threads append, so kills meet group
commits; every few appends a blob and a checkpoint are written too.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time

from wal.directory import open_log_directory
from wal.genesis import Genesis
from wal.note import Ed25519Signer

MAP_BYTES = 256 * 1024 * 1024
SIGNER = Ed25519Signer("example.org/killed", bytes(32))
GENESIS = Genesis("example.org/killed", SIGNER.public, bytes(16))


def main(path: str, seed: int) -> None:
    """Append until killed."""
    log, _ = open_log_directory(path, signer=SIGNER, clock=time.time_ns, map_bytes=MAP_BYTES)
    os.write(1, b"open %d\n" % log.head.index)

    def work(number: int) -> None:
        chance = random.Random(seed * 10 + number)
        while True:
            if chance.random() < 0.02:
                log.put_blob(chance.randbytes(5000))
            if chance.random() < 0.02:
                log.checkpoint()
            receipt = log.append([chance.randbytes(chance.randrange(200)) for _ in range(chance.randint(1, 4))])
            os.write(1, b"%d %s\n" % (receipt.last, receipt.link.hex().encode()))

    for number in range(1, 3):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    work(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
