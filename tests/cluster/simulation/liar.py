"""A member that lies: it runs the honest core, and says other things than that tells it to.

It never leads: what a leader can do wrong is found by its followers, and is played by another fault.
"""

from __future__ import annotations

from cluster.messages import Ack, Align, Entries, Hello, Message, Promised, PromiseRequest, Refused, Span, Welcome
from tests.cluster.simulation.network import Stream
from tests.cluster.simulation.node import Node
from wal.record import Head


class Liar(Node):
    """A node whose words are changed on their way out."""

    def receive(self, sender: str, message: Message, stream: Stream | None) -> None:
        if not self.up or (stream is not None and self.name not in stream.ends):
            return
        lie, random = self.world.scenario.liar, self.random
        if type(message) is Entries and message.checkpoint and random.random() < 0.7:
            if lie == "stores-nothing":
                self._acknowledge(sender, message, stream)
                return
            if lie == "other-roots":
                self.world.post(self, sender, self._over_another_root(message), stream)
                return
            if lie == "sizes":
                size = self._size(message) + random.randrange(-3, 4)
                self.world.post(
                    self, sender, Ack(message.epoch, max(size, 0), self.auth.cosign(message.checkpoint)), stream
                )
        if lie == "promises" and type(message) is PromiseRequest and random.random() < 0.8:
            self._promise(sender, message)
            return
        if random.random() < (0.1 if lie == "leads" else 0.02):
            self._intrude(sender)
        super().receive(sender, message, stream)

    def _size(self, message: Entries) -> int:
        return message.prev.index + len(message.frames)

    def _acknowledge(self, sender: str, message: Entries, stream: Stream | None) -> None:
        """Sign for records that are not stored."""
        self.world.post(
            self, sender, Ack(message.epoch, self._size(message), self.auth.cosign(message.checkpoint)), stream
        )

    def _over_another_root(self, message: Entries) -> Ack:
        root = bytes(self.random.randrange(256) for _ in range(32))
        other = self.auth.propose(message.epoch, self._size(message), root)
        return Ack(message.epoch, self._size(message), self.auth.cosign(other))

    def _promise(self, sender: str, message: PromiseRequest) -> None:
        """Promise with a log that is shorter, or longer, than its own; to anyone."""
        members = self.disk.log.membership()
        candidate = members.get(sender) if members is not None else None
        if candidate is None:
            return
        vouched = self.disk.log.vouched()
        size = max(1, vouched.head.index + self.random.randrange(-6, 7))
        epoch = vouched.epoch if self.random.random() < 0.7 else message.epoch - 1
        root = vouched.root if self.random.random() < 0.5 else bytes(32)
        promise = self.auth.promise(message.epoch, candidate.key, self.name, epoch, size, root)
        self.world.post(self, sender, Promised(message.epoch, promise), None)

    def _intrude(self, sender: str) -> None:
        """Claim to lead, in an epoch that nobody granted."""
        log, epoch = self.disk.log, self.replica.epoch + self.random.randrange(3)
        hello = Hello(self.world.log_id, epoch, self.name, log.head(), log.history(), 1 << 20)
        align = Align(epoch, Head(4, log.link_at(4)))
        claims = [hello, align] if self.world.scenario.liar == "leads" else [hello]
        for claim in (*claims, PromiseRequest(self.world.log_id, epoch, self.name)):
            self.world.post(self, sender, claim, None)

    def say(self, to: str, message: Message) -> Message | None:
        """What is said in place of ``message``; None: nothing."""
        lie, random = self.world.scenario.liar, self.random
        if lie == "stores-nothing" and type(message) is Refused:
            return None
        if lie == "wrong-epochs" and hasattr(message, "epoch") and random.random() < 0.4:
            epoch = random.choice((message.epoch - 1, message.epoch + 1, message.epoch + 1000, 0))
            return message._replace(epoch=max(epoch, 0))
        if lie == "garbage" and random.random() < 0.4:
            return self._garbage(message)
        return message

    def _garbage(self, message: Message) -> Message:
        random = self.random
        if type(message) is Welcome:
            history = tuple(Span(random.randrange(9), random.randrange(1, 60)) for _ in range(random.randrange(6)))
            head = Head(random.randrange(80), bytes(random.randrange(256) for _ in range(32)))
            return message._replace(history=tuple(sorted(history)), head=head, window=random.randrange(1 << 30))
        if type(message) is Ack:
            junk = bytes(random.randrange(256) for _ in range(random.randrange(60)))
            return message._replace(size=random.randrange(200), cosignature=junk)
        if type(message) is Promised:
            return message._replace(promise=message.promise._replace(signature=bytes(64)))
        return message
