"""Operations take effect in the index, and in the batch that will bring them to the disk.

All of this happens on the thread of the loop, when a write is submitted: there is one order, and
what cancels out never gets as far as the thread that writes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, cast, final

from adapters.storage._batch import Batch, Before, Gathered
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
        # Operation is the common type; each function takes the one that it stands for.
        self._steps: Final = cast(
            "dict[type[Operation], Callable[[Operation, Gathered], None]]",
            {
                Append: self._append,
                Settle: self._settle,
                SaveSent: self._save_sent,
                SaveReceived: self._save_received,
                HoldIdentifier: self._hold_identifier,
                ReleaseIdentifier: self._release_identifier,
                PutRetained: self._put_retained,
                DeleteRetained: self._delete_retained,
                DropExpired: self._drop_expired,
                SaveSession: self._save_session,
                EndSession: self._end_session,
                RetireSession: self._retire_session,
                SaveExpiry: self._save_expiry,
                SaveWill: self._save_will,
                SaveSubscription: self._save_subscription,
                DeleteSubscription: self._delete_subscription,
            },
        )

    def fold(self, write: Gathered) -> None:
        """Let a write take effect."""
        steps = self._steps
        for operation in write.operations:
            steps[type(operation)](operation, write)
        write.retained = self.retained.count

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
                position = index.last_position
                stored.send(number, (delivery, size, target.packet_id, 0, position))
                batch.flights[delivery] = (target.packet_id, 0, position)
                if target.qos != 1:  # sent only once it is stored
                    write.rests = True
            else:
                stored.add(delivery, size)
                write.rests = True
            if expires_at:
                stored.note_expiry(delivery, expires_at)
            stored.touched = batch.serial
            batch.added[delivery] = (stored, target, size, expires_at, write)
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
            packet_id = is_received = position = 0
        else:
            delivery, size, packet_id, is_received, position = flight
        expires_at = stored.forget_expiry(delivery)
        self.index.count -= 1
        added = batch.added.pop(delivery, None)
        batch.flights.pop(delivery, None)
        if added is None:
            if delivery not in batch.before:
                batch.before[delivery] = Before(
                    stored, size, expires_at, packet_id, is_received, position
                )
            batch.removed.add(delivery)
            if write is not None:
                write.rests = True
        else:
            writer = added[4]
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
            before = Before(stored, taken[1], stored.expiry(taken[0]), 0, 0, 0)
            self._step(stored, taken[0], before, operation.packet_id, 0, write)

    def _save_received(self, operation: SaveReceived, write: Gathered) -> None:
        stored = self._sessions.get(operation.session)
        flight = None if stored is None else stored.land(operation.number)
        if stored is not None and flight is not None:
            before = Before(stored, flight[1], stored.expiry(flight[0]), *flight[2:])
            self._step(stored, flight[0], before, flight[2], 1, write)

    def _step(
        self,
        stored: Stored,
        delivery: int,
        before: Before,
        packet_id: int,
        is_received: int,
        write: Gathered,
    ) -> None:
        """A delivery has got further, behind the others of its session."""
        index = self.index
        batch = self.batch
        index.last_position += 1
        position = index.last_position
        number = number_of(delivery)
        stored.send(number, (delivery, before.size, packet_id, is_received, position))
        batch.flights[delivery] = (packet_id, is_received, position)
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

    def _save_subscription(self, operation: SaveSubscription, write: Gathered) -> None:
        if self._kept(operation.session) is not None:
            filters = self.batch.subscriptions.setdefault(operation.session, {})
            filters[operation.topic_filter] = (operation.qos, operation.options)
            self._changed(write)

    def _delete_subscription(self, operation: DeleteSubscription, write: Gathered) -> None:
        if self._kept(operation.session) is not None:
            filters = self.batch.subscriptions.setdefault(operation.session, {})
            filters[operation.topic_filter] = None
            self._changed(write)

    def _hold_identifier(self, operation: HoldIdentifier, write: Gathered) -> None:
        if self._kept(operation.session) is not None:
            self.batch.held.setdefault(operation.session, {})[operation.packet_id] = True
            self._changed(write)

    def _release_identifier(self, operation: ReleaseIdentifier, write: Gathered) -> None:
        if self._kept(operation.session) is not None:
            self.batch.held.setdefault(operation.session, {})[operation.packet_id] = False
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

    def _delete_retained(self, operation: DeleteRetained, write: Gathered) -> None:
        self._delete_topic(operation.topic, write)

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
                added[4].rests = True  # the end of the session may be refused
            self._remove(stored, number_of(delivery), None)
        return budget

    # When a batch comes to nothing

    def roll_back(self, batch: Batch) -> None:
        """Take back all that a batch changed. The last batch goes first."""
        for delivery, (stored, _, _, _, _) in batch.added.items():
            self._take_out(stored, delivery)
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
        stored, size, expires_at, packet_id, is_received, position = before
        if packet_id:
            flight: Flight = (delivery, size, packet_id, is_received, position)
            stored.send(number_of(delivery), flight)
        else:
            stored.add(delivery, size)
        if expires_at:
            stored.note_expiry(delivery, expires_at)

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
