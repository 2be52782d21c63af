"""Events to a real MQTT broker: in order at QoS 1, over a kill of the broker, and not without the right password."""

from __future__ import annotations

import json
import logging
import time

import pytest
from mosquitto import Mosquitto, Subscriber, why_not
from redis_servers import wait_for

from pipeline import forwarding
from pipeline.forwarding import Forwarder
from pipeline.schema import Events
from st_model.counts import Axes
from st_model.embedded import EmbeddedServer
from st_model.site_stream import SiteStream
from st_model.store import Store

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture
def stream(tmp_path):
    with EmbeddedServer(tmp_path / "redis") as server:
        yield SiteStream(Store(server.url, "s", axes=Axes(2.0, -30.0, 20, 86400.0)), "main", "m")


def events(first, last, area="main"):
    rows = [{"id": f"{area}-{n}", "event": "new" if n % 2 else "end", "area": area} for n in range(first, last)]
    return [json.dumps(row).encode() + b"\n" for row in rows]


def forwarder(stream, port, active=lambda: True, login=""):
    return Forwarder(Events(mqtt=f"mqtt://{login}127.0.0.1:{port}"), "s", stream, active)


def ids(subscriber):
    return [json.loads(payload)["id"] for _, payload, _ in subscriber.got]


def test_events_arrive_in_order_at_qos_1_and_go_on_where_they_were(stream, tmp_path):
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as subscriber:
        with forwarder(stream, broker.port):
            stream.add_events([*events(0, 40), *events(0, 5, area="other")])
            wait_for(lambda: len(subscriber.got) == 40)
            wait_for(lambda: stream.forwarded() != "0")
        stream.add_events(events(40, 60))
        with forwarder(stream, broker.port):  # the next active matcher
            wait_for(lambda: len(subscriber.got) >= 60)
    assert ids(subscriber) == [f"main-{n}" for n in range(60)]
    assert {qos for *_, qos in subscriber.got} == {1}
    assert [topic for topic, *_ in subscriber.got[:2]] == ["identrix/s/main/end", "identrix/s/main/new"]


def test_a_broker_that_is_killed_gets_the_rest_when_it_is_back(stream, tmp_path, caplog):
    with (
        Mosquitto(tmp_path) as broker,
        Subscriber(broker.port) as subscriber,
        caplog.at_level(logging.WARNING),
        # Nothing is published before the subscriber is back: what a broker does for absent ones is not ours to test.
        forwarder(stream, broker.port, lambda: subscriber.ready),
    ):
        stream.add_events(events(0, 200))
        wait_for(lambda: len(subscriber.got) > 20)
        broker.freeze()  # while one is on its way; what it has handed on arrives
        time.sleep(0.2)
        broker.kill()
        stream.add_events(events(200, 250))
        wait_for(lambda: not subscriber.ready)
        broker.start()
        wait_for(lambda: "main-249" in ids(subscriber), 40)
    got = ids(subscriber)
    assert list(dict.fromkeys(got)) == [f"main-{n}" for n in range(250)], "none is lost, and those that are new rise"
    assert len(got) <= 2 * 250 and "events are not forwarded" in caplog.text


def test_a_wrong_password_is_said_and_tried_again(stream, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(forwarding, "_PAUSE_S", (0.1, 0.2))
    stream.add_events(events(0, 3))
    with (
        Mosquitto(tmp_path, "me:right") as broker,
        caplog.at_level(logging.WARNING),
        forwarder(stream, broker.port, login="me:wr0ng@") as sender,
    ):
        wait_for(lambda: "the broker refuses us: Not authorized; trying again" in caplog.text)
        assert sender.forwarded == 0 and stream.forwarded() == "0"
        broker.kill()
        wait_for(lambda: "Connection refused" in caplog.text)
        broker.start("me:wr0ng")  # somebody has mended it
        with Subscriber(broker.port, "me:wr0ng") as subscriber:
            stream.add_events(events(3, 4))
            wait_for(lambda: sender.forwarded == 4)
            wait_for(lambda: "main-3" in ids(subscriber))
    assert "wr0ng" not in caplog.text and caplog.text.count("refuses us") == 1
