"""Which subscriptions a topic matches, against a matcher that tries every filter."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mqtt_core._topics import Topic, TopicCache
from mqtt_core.broker._router import Router
from mqtt_core.broker._session import Session
from mqtt_core.broker._subscribers import Subscriber, Subscribers
from tests.core.test_topics import matches_by_definition
from tests.strategies import topic_filters, topic_names


def filters_for(router: Router, name: str) -> list[str]:
    """The filters that have subscribers and match, by the route of a topic."""
    topic = router._topics.find(name.encode()) or router._topics.add(name.encode())
    found = [each.topic_filter.decode() for each in router.route(topic).found if each.count]
    assert len(set(found)) == len(found)
    return sorted(found)


@given(st.lists(topic_filters, max_size=20, unique=True), topic_names)
def test_a_walk_finds_the_filters_that_match(filters: list[str], name: str) -> None:
    router = Router(TopicCache(0))
    session = Session(1, 0, "c")
    for topic_filter in filters:
        assert router.subscribe(session, topic_filter.encode(), 1)
    found = [each.topic_filter.decode() for each in router.match(Topic(name.encode()))]
    assert sorted(found) == sorted(each for each in filters if matches_by_definition(each, name))
    assert router.filter_count == len(filters)
    for topic_filter in filters:
        assert router.unsubscribe(session, topic_filter.encode())
    assert router.filter_count == router.count == router.size_bytes == 0
    assert router._root.is_bare


class RouterMachine(RuleBasedStateMachine):
    """Subscriptions that come, change and go, and routes that are remembered meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router(TopicCache(20_000))
        self.sessions = [Session(number, 0, f"c{number}") for number in range(3)]
        self.model: dict[tuple[int, str], int] = {}

    @rule(at=st.integers(0, 2), name=topic_filters, qos=st.integers(0, 2))
    def subscribe(self, at: int, name: str, qos: int) -> None:
        is_new = (at, name) not in self.model
        assert self.router.subscribe(self.sessions[at], name.encode(), qos) is is_new
        self.model[at, name] = qos

    @rule(at=st.integers(0, 2), name=topic_filters)
    def unsubscribe(self, at: int, name: str) -> None:
        is_known = self.model.pop((at, name), None) is not None
        assert self.router.unsubscribe(self.sessions[at], name.encode()) is is_known

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if self.model:
            at, name = data.draw(st.sampled_from(sorted(self.model)))
            self.unsubscribe(at, name)

    @rule(names=st.lists(topic_names, min_size=1, max_size=4))
    def route(self, names: list[str]) -> None:
        for name in names:
            filters = {each for _, each in self.model if matches_by_definition(each, name)}
            assert filters_for(self.router, name) == sorted(filters)

    @rule(name=topic_names)
    def receivers(self, name: str) -> None:
        topic = self.router._topics.find(name.encode()) or self.router._topics.add(name.encode())
        found = []
        for subscribers in self.router.route(topic).found:
            for qos in (0, 1, 2):
                for each in subscribers.at_qos(qos) or ():
                    assert each.qos == qos
                    found.append((each.session.number, subscribers.topic_filter.decode(), qos))
        expected = [
            (at, each, qos)
            for (at, each), qos in self.model.items()
            if matches_by_definition(each, name)
        ]
        assert sorted(found) == sorted(expected)

    @invariant()
    def counts(self) -> None:
        assert self.router.count == len(self.model)
        assert self.router.filter_count == len({name for _, name in self.model})
        assert (self.router.size_bytes > 0) is bool(self.model)
        assert self.router._topics.size_bytes <= 20_000
        for at, session in enumerate(self.sessions):
            filters = {name.encode() for number, name in self.model if number == at}
            assert set(session.subscriptions) == filters

    def teardown(self) -> None:
        for at, name in list(self.model):
            self.unsubscribe(at, name)
        self.counts()
        assert self.router._root.is_bare


TestRouterMachine = RouterMachine.TestCase
TestRouterMachine.settings = settings(max_examples=25, stateful_step_count=40)


def test_a_shared_list_stays_as_it_is() -> None:
    subscribers = Subscribers(b"t")
    everyone = [Subscriber(Session(number, 0, "c"), subscribers, 1) for number in range(3)]
    for subscriber in everyone:
        subscribers.add(subscriber)
    shared = subscribers.at_qos(1)
    subscribers.share()
    subscribers.remove(everyone[0])
    subscribers.remove(everyone[1])
    assert shared == everyone
    assert everyone[0].index == -1
    assert subscribers.at_qos(1) == [everyone[2]]
    subscribers.remove(everyone[2])
    assert subscribers.at_qos(1) is None
    assert subscribers.count == 0
    assert subscribers.at_qos(0) is subscribers.at_qos(2) is None


def test_levels_come_and_go_one_after_the_other() -> None:
    router = Router(TopicCache(100_000))
    session = Session(1, 0, "c")
    filters = ["a/+", "b/+", "c/+", "+/+", "b/x/#"]
    for number, topic_filter in enumerate(filters, 1):
        router.subscribe(session, topic_filter.encode(), 0)
        assert router.filter_count == number
    assert filters_for(router, "b/x") == ["+/+", "b/+", "b/x/#"]
    assert filters_for(router, "d/x") == ["+/+"]
    while filters:
        assert router.unsubscribe(session, filters.pop(0).encode())
        assert filters_for(router, "b/x") == sorted(each for each in filters if each[0] in "b+")
    assert router._root.is_bare
    router.subscribe(session, b"d/+", 0)
    assert filters_for(router, "d/x") == ["d/+"]


def test_a_route_is_kept_while_filters_that_do_not_match_come_and_go() -> None:
    router = Router(TopicCache(100_000))
    session = Session(1, 0, "c")
    router.subscribe(session, b"a/+", 0)
    topic = router._topics.add(b"a/b")
    route = router.route(topic)
    for number in range(10):
        router.subscribe(session, b"x/%d/#" % number, 0)
        assert router.route(topic) is route
    router.subscribe(session, b"a/#", 0)
    assert router.route(topic) is not route
    assert filters_for(router, "a/b") == ["a/#", "a/+"]
    route = router.route(topic)
    for number in range(100):  # more than are remembered one by one
        router.subscribe(session, b"y/%d/#" % number, 0)
    assert router.route(topic).found == route.found


def test_a_filter_without_wildcards_changes_only_its_own_route() -> None:
    router = Router(TopicCache(100_000))
    session = Session(1, 0, "c")
    one = router._topics.add(b"one")
    two = router._topics.add(b"two")
    first = router.route(one)
    second = router.route(two)
    router.subscribe(session, b"one", 0)
    assert router.route(one) is not first
    assert router.route(two) is second
    router.unsubscribe(session, b"one")
    assert router.route(one).found == []


def test_a_topic_that_is_not_cached_gets_no_route() -> None:
    router = Router(TopicCache(0))
    router.subscribe(Session(1, 0, "c"), b"a", 0)
    topic = router._topics.add(b"a")
    assert not topic.is_cached
    assert len(router.route(topic).found) == 1
    assert topic.route is None
