"""MQTT without I/O: packets, connection state and delivery handshakes, for clients and servers."""

from mqtt_core._codes import MQTT_3_1, MQTT_3_1_1, MQTT_5, SUCCESS, reason_name
from mqtt_core._connection import Connection, ConnectionLost
from mqtt_core._encode import encode
from mqtt_core._errors import (
    ConnectionRefused,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
)
from mqtt_core._flow import Flow
from mqtt_core._message import Message, make_message
from mqtt_core._packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
    make_publish,
)
from mqtt_core._properties import NO_PROPERTIES, Properties, PropertyValue
from mqtt_core._state import CLIENT, CLIENT_MAY_SEND, SERVER, SERVER_MAY_SEND, State
from mqtt_core._topics import topic_filter_fault, topic_matches, topic_name_fault

__all__ = [
    "CLIENT",
    "CLIENT_MAY_SEND",
    "MQTT_3_1",
    "MQTT_3_1_1",
    "MQTT_5",
    "NO_PROPERTIES",
    "SERVER",
    "SERVER_MAY_SEND",
    "SUCCESS",
    "Auth",
    "ConnAck",
    "Connect",
    "Connection",
    "ConnectionLost",
    "ConnectionRefused",
    "Disconnect",
    "Flow",
    "LocalProtocolError",
    "Message",
    "Packet",
    "PingReq",
    "PingResp",
    "Properties",
    "PropertyValue",
    "ProtocolError",
    "PubAck",
    "PubComp",
    "PubRec",
    "PubRel",
    "Publish",
    "RemoteProtocolError",
    "State",
    "SubAck",
    "Subscribe",
    "Subscription",
    "UnsubAck",
    "Unsubscribe",
    "Will",
    "encode",
    "make_message",
    "make_publish",
    "reason_name",
    "topic_filter_fault",
    "topic_matches",
    "topic_name_fault",
]
