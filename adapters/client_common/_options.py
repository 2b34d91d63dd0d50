"""The options of a client, checked, and the defaults that go with them."""

from __future__ import annotations

from typing import Final, Literal

from adapters.client_common._will import Will
from adapters.stages import ServerAddress, server_address
from mqtt_core import MQTT_3_1_1, MQTT_5, Properties
from mqtt_core.client import AUTO, ClientLimits, Mechanism, Reconnect, Settings

Version = Literal["auto", "5", "3.1.1", 5]
"""The version of MQTT that a client speaks; `auto` tries 5.0 first."""

_LEVELS: Final[dict[object, int]] = {
    "auto": AUTO,
    5: MQTT_5,
    "5": MQTT_5,
    "5.0": MQTT_5,
    "3.1.1": MQTT_3_1_1,
}


def make_settings(
    url: str,
    *,
    client_id: str,
    username: str | None,
    password: str | bytes | None,
    version: Version,
    keep_alive_s: int,
    session_expiry_s: int,
    will: Will | None,
    reconnect: Reconnect | None,
    manual_acks: bool,
    queues_qos0: bool,
    properties: Properties,
    mechanism: Mechanism | None,
    limits: ClientLimits | None,
) -> tuple[ServerAddress, Settings]:
    """Where to connect, and how. Raises `ValueError` saying what is wrong."""
    address = server_address(url)
    if version not in _LEVELS:
        raise ValueError(f"the version is {version!r}; allowed: 'auto', 5 and '3.1.1'")
    if username is None:
        username = address.username
    if password is None:
        password = address.password
    settings = Settings(
        client_id=client_id,
        username=username,
        password=password.encode() if isinstance(password, str) else password,
        level=_LEVELS[version],
        keep_alive_s=keep_alive_s,
        session_expiry_s=session_expiry_s,
        will=None if will is None else will.packet,
        reconnect=reconnect,
        manual_acks=manual_acks,
        queues_qos0=queues_qos0,
        properties=properties,
        mechanism=mechanism,
        server=address.url,
        limits=limits,
    )
    return address, settings
