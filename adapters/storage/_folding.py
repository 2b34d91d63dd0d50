"""Operations take effect in the index, and in the batch that will bring them to the disk.

All of this happens on the thread of the loop, when a write is submitted: there is one order, and
what cancels out never gets as far as the thread that writes.
"""

from __future__ import annotations

import heapq
from typing import Final, final

from adapters.storage._batch import Added, Batch, Before, Gathered, Granted
from adapters.storage._index import Flight, Index, Stored, delivery_id, number_of
from mqtt_core import Message
from mqtt_core.broker import (
    Append,
    DeleteRetained,
    DeleteSubscription,
    DropExpired,
    EndSession,
    HoldIdentifier,
    Operation,
    PutRetained,
    ReleaseIdentifier,
    RetainedMessages,
    RetireSession,
    SaveExpiry,
    SaveReceived,
    SaveSent,
    SaveSession,
    SaveSubscription,
    SaveWill,
    Settle,
)


@final
class Folding:
    """Applies operations to `index` and `retained`, and notes in `batch` what they come to."""

    def __init__(self, index: Index, retained: RetainedMessages) -> None:
        self.index: Final = index
        self.retained: Final = retained
        self.batch = Batch(1)
        self.cancelled: list[Gathered] = []  # writes of which nothing is left
        self._expiring: Final[list[tuple[float, bytes]]] = []  # retained messages, as a heap
        self._sessions: Final = index.sessions

    def fold(self, write: Gathered) -> None:
        """Let a write take effect."""
        for operation in write.operations:
            if isinstance(operation, Append):
                self._append(operation, write)
            elif isinstance(operation, Settle):
                self._settle(operation, write)
            elif isinstance(operation, SaveSent):
                self._save_sent(operation, write)
            elif isinstance(operation, SaveReceived):
                self._save_received(operation, write)
            elif isinstance(operation, HoldIdentifier):
                self._hold(operation.session, operation.packet_id, True, write)
            elif isinstance(operation, ReleaseIdentifier):
                self._hold(operation.session, operation.packet_id, False, write)
            elif isinstance(operation, PutRetained):
                self._put_retained(operation, write)
            elif isinstance(operation, DeleteRetained):
                self._delete_topic(operation.topic, write)
            elif isinstance(operation, DropExpired):
                self._drop_expired(operation, write)
            else:
                self._fold_session(operation, write)
        write.retained = self.retained.count

    def _fold_session(self, operation: Operation, write: Gathered) -> None:
        """Let a change of a session, or of what belongs to it, take effect."""
        if isinstance(operation, SaveSession):
            self._save_session(operation, write)
        elif isinstance(operation, EndSession):
            self._end_session(operation, write)
        elif isinstance(operation, RetireSession):
            self._retire_session(operation, write)
        elif isinstance(operation, SaveExpiry):
            self._save_expiry(operation, write)
        elif isinstance(operation, SaveSubscription):
            granted = (operation.qos, operation.options, operation.retained_due)
            self._subscribe(operation.session, operation.topic_filter, granted, write)
        elif isinstance(operation, DeleteSubscription):
            self._subscribe(operation.session, operation.topic_filter, None, write)
        else:
            assert isinstance(operation, SaveWill), operation
            self._save_will(operation, write)

    def note_retained(self, message: Message) -> None:
        """Remember when a retained message expires."""
        if message.expires_at:
            heapq.heappush(self._expiring, (message.expires_at, message.topic.utf8))

    # Deliveries

    def _append(self, operation: Append, write: Gathered) -> None:
        index = self.index
        number = operation.number
        if number > index.last_number:
            index.last_number = number
        message = operation.message
        batch = self.batch
        place = 0
        size = message.size_bytes
        expires_at = message.expires_at
        for target in operation.targets:
            stored = self._sessions.get(target.session)
            if stored is None:
                continue
            delivery = delivery_id(number, place)
            place += 1
            if target.packet_id:
                index.last_position += 1
                flight = Flight(delivery, size, target.packet_id, False, index.last_position)
                stored.send(flight)
                batch.flights[delivery] = flight
                if target.qos != 1:  # sent only once it is stored
                    write.rests = True
            else:
                stored.add(delivery, size)
                write.rests = True
            if expires_at:
                stored.note_expiry(delivery, expires_at)
            stored.touched = batch.serial
            batch.added[delivery] = Added(stored, target, size, expires_at, write)
        if place:
            write.live += place
            index.count += place
            batch.messages[number] = message
            if place > 1:
                batch.shared_before.setdefault(number, 0)
                index.shared[number] = place

    def _settle(self, operation: Settle, write: Gathered) -> None:
        stored = self._sessions.get(operation.session)
        if stored is not None:
            self._remove(stored, operation.number, write)

    def _remove(self, stored: Stored, number: int, write: Gathered | None) -> None:
        """A delivery is over. `write` is who says so, None for nobody who may be refused."""
        batch = self.batch
        flight = stored.land(number)
        if flight is None:
            taken = stored.take(number)
            if taken is None:
                return
            delivery, size = taken
        else:
            delivery = flight.delivery
            size = flight.size
        expires_at = stored.forget_expiry(delivery)
        self.index.count -= 1
        added = batch.added.pop(delivery, None)
        batch.flights.pop(delivery, None)
        if added is None:
            if delivery not in batch.before:
                batch.before[delivery] = Before(stored, size, expires_at, flight)
            batch.removed.add(delivery)
            if write is not None:
                write.rests = True
        else:
            writer = added.write
            writer.live -= 1
            if write is not None and write.request_id:
                # If this one is refused, the delivery is there after all.
                writer.rests = True
                write.rests = True
            elif not (writer.live or writer.rests or writer.is_done):
                self.cancelled.append(writer)
        self._release_message(number)

    def _release_message(self, number: int) -> None:
        """One delivery of a message less; the message goes with the last."""
        shared = self.index.shared
        batch = self.batch
        count = shared.get(number)
        if count is None:
            if batch.messages.pop(number, None) is None:
                batch.gone.append(number)
            return
        batch.shared_before.setdefault(number, count)
        if count > 2:
            shared[number] = count - 1
        else:
            del shared[number]

    def _save_sent(self, operation: SaveSent, write: Gathered) -> None:
        stored = self._sessions.get(operation.session)
        taken = None if stored is None else stored.take(operation.number)
        if stored is not None and taken is not None:
            delivery, size = taken
            before = Before(stored, size, stored.expiry(delivery), None)
            self._step(delivery, before, operation.packet_id, False, write)

    def _save_received(self, operation: SaveReceived, write: Gathered) -> None:
        stored = self._sessions.get(operation.session)
        flight = None if stored is None else stored.land(operation.number)
        if stored is not None and flight is not None:
            before = Before(stored, flight.size, stored.expiry(flight.delivery), flight)
            self._step(flight.delivery, before, flight.packet_id, True, write)

    def _step(
        self, delivery: int, before: Before, packet_id: int, is_received: bool, write: Gathered
    ) -> None:
        """A delivery has got further, behind the others of its session."""
        index = self.index
        batch = self.batch
        index.last_position += 1
        flight = Flight(delivery, before.size, packet_id, is_received, index.last_position)
        before.stored.send(flight)
        batch.flights[delivery] = flight
        if delivery not in batch.added and delivery not in batch.before:
            batch.before[delivery] = before
        write.rests = True

    # Sessions

    def _save_session(self, operation: SaveSession, write: Gathered) -> None:
        index = self.index
        session = operation.session
        self._forget_deliveries_of(session, write)
        stored = Stored(session, operation.client_id)
        index.last_number = max(index.last_number, session)
        self._note_session(session, operation.client_id)
        index.put(stored)
        self.batch.sessions[session] = stored
        self._changed(write)

    def _forget_deliveries_of(self, session: int, write: Gathered) -> None:
        """A number that was in use before: nothing of that session may come to the new one."""
        known = self._sessions.get(session)
        if known is not None:
            self._end(known, write)
        for stored in self.index.garbage:
            if stored.session == session:
                self._purge(stored, stored.count)

    def _end_session(self, operation: EndSession, write: Gathered) -> None:
        stored = self._sessions.get(operation.session)
        if stored is not None:
            self._end(stored, write)

    def _end(self, stored: Stored, write: Gathered) -> None:
        index = self.index
        self._note_session(stored.session, stored.client_id)
        del index.sessions[stored.session]
        index.version += 1
        index.forget_client(stored)
        if stored.count:
            index.garbage.append(stored)
        self._delete_session(stored, write)

    def _retire_session(self, operation: RetireSession, write: Gathered) -> None:
        stored = self._sessions.get(operation.session)
        if stored is None or stored.is_retired:
            return
        self._note_session(stored.session, stored.client_id)
        self.index.forget_client(stored)
        stored.is_retired = True
        self.batch.retired.append(stored)
        # Without it, its queue is nobody's after a restart.
        self._delete_session(stored, write)

    def _delete_session(self, stored: Stored, write: Gathered) -> None:
        batch = self.batch
        session = stored.session
        batch.ended.add(session)
        batch.sessions.pop(session, None)
        batch.subscriptions.pop(session, None)
        batch.held.pop(session, None)
        self._changed(write)

    def _note_session(self, session: int, client_id: str) -> None:
        batch = self.batch
        batch.sessions_before.setdefault(session, self._sessions.get(session))
        batch.clients_before.setdefault(client_id, self.index.by_client.get(client_id, 0))

    def _kept(self, session: int) -> Stored | None:
        """A session of which the database has a row."""
        stored = self._sessions.get(session)
        return None if stored is None or stored.is_retired else stored

    def _save_expiry(self, operation: SaveExpiry, write: Gathered) -> None:
        stored = self._kept(operation.session)
        if stored is None:
            return
        batch = self.batch
        batch.expiries_before.append((stored, stored.expires_at, stored.interval_s))
        stored.expires_at = operation.at
        stored.interval_s = operation.interval_s
        batch.sessions[stored.session] = stored
        self._changed(write)

    def _save_will(self, operation: SaveWill, write: Gathered) -> None:
        will = operation.will
        self.batch.wills[operation.client_id] = None if will is None else (will, operation.due)
        self._changed(write)

    def _subscribe(
        self,
        session: int,
        topic_filter: bytes,
        granted: Granted | None,
        write: Gathered,
    ) -> None:
        """A subscription has changed, None: it is over."""
        if self._kept(session) is not None:
            self.batch.subscriptions.setdefault(session, {})[topic_filter] = granted
            self._changed(write)

    def _hold(self, session: int, packet_id: int, is_held: bool, write: Gathered) -> None:
        """A client's identifier of a QoS 2 message is held or free."""
        if self._kept(session) is not None:
            self.batch.held.setdefault(session, {})[packet_id] = is_held
            self._changed(write)

    def _changed(self, write: Gathered) -> None:
        self.batch.changes += 1
        write.rests = True

    # Retained messages

    def _put_retained(self, operation: PutRetained, write: Gathered) -> None:
        message = operation.message
        self._note_retained_before(message.topic.utf8)
        self.retained.put(message)
        self.note_retained(message)
        self.batch.retained[message.topic.utf8] = message
        self._changed(write)

    def _delete_topic(self, topic: bytes, write: Gathered) -> None:
        if self.retained.get(topic) is not None:
            self._note_retained_before(topic)
            self.retained.delete(topic)
            self.batch.retained[topic] = None
            self._changed(write)

    def _drop_expired(self, operation: DropExpired, write: Gathered) -> None:
        expiring = self._expiring
        while expiring and expiring[0][0] <= operation.now:
            topic = heapq.heappop(expiring)[1]
            message = self.retained.get(topic)
            if message is not None and 0.0 < message.expires_at <= operation.now:
                self._delete_topic(topic, write)

    def _note_retained_before(self, topic: bytes) -> None:
        before = self.batch.retained_before
        if topic not in before:
            before[topic] = self.retained.get(topic)

    # What sessions that are over have left

    def purge(self, budget: int) -> None:
        """Delete some deliveries of sessions that are over."""
        garbage = self.index.garbage
        while garbage and budget > 0:
            budget -= self._purge(garbage[-1], budget)
            if not garbage[-1].count:
                garbage.pop()

    def _purge(self, stored: Stored, budget: int) -> int:
        """Delete at most `budget` deliveries of a session; how many it were."""
        for done in range(budget):
            delivery = stored.first_delivery()
            if not delivery:
                return done
            added = self.batch.added.get(delivery)
            if added is not None:
                added.write.rests = True  # the end of the session may be refused
            self._remove(stored, number_of(delivery), None)
        return budget

    # When a batch comes to nothing

    def roll_back(self, batch: Batch) -> None:
        """Take back all that a batch changed. The last batch goes first."""
        for delivery, added in batch.added.items():
            self._take_out(added.stored, delivery)
            self.index.count -= 1
        for delivery, before in batch.before.items():
            if delivery in batch.removed:
                self.index.count += 1
            else:
                self._take_out(before.stored, delivery)
            self._put_back(delivery, before)
        shared = self.index.shared
        for number, count in batch.shared_before.items():
            if count:
                shared[number] = count
            else:
                shared.pop(number, None)
        self._roll_back_sessions(batch)
        for topic, message in batch.retained_before.items():
            if message is None:
                self.retained.delete(topic)
            else:
                self.retained.put(message)
                self.note_retained(message)

    def _take_out(self, stored: Stored, delivery: int) -> None:
        number = number_of(delivery)
        if stored.land(number) is None:
            stored.take(number)
        stored.forget_expiry(delivery)

    def _put_back(self, delivery: int, before: Before) -> None:
        stored = before.stored
        if before.flight is not None:
            stored.send(before.flight)
        else:
            stored.add(delivery, before.size)
        if before.expires_at:
            stored.note_expiry(delivery, before.expires_at)

    def _roll_back_sessions(self, batch: Batch) -> None:
        index = self.index
        for session, stored in batch.sessions_before.items():
            if stored is None:
                index.sessions.pop(session, None)
            else:
                index.sessions[session] = stored
        index.version += 1
        for client_id, session in batch.clients_before.items():
            if session:
                index.by_client[client_id] = session
            else:
                index.by_client.pop(client_id, None)
        for stored, expires_at, interval_s in reversed(batch.expiries_before):
            stored.expires_at = expires_at
            stored.interval_s = interval_s
        for stored in batch.retired:
            stored.is_retired = False
        over = {id(stored): stored for stored in index.garbage}
        for before in batch.before.values():
            over[id(before.stored)] = before.stored
        index.garbage[:] = [
            stored
            for stored in over.values()
            if stored.count and index.sessions.get(stored.session) is not stored
        ]
