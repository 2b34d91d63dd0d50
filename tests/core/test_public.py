"""What the packages offer is what they list."""

from __future__ import annotations

import types

import pytest

import mqtt_core
import mqtt_core.broker
from mqtt_core import reason_name
from mqtt_core._codes import CONNACK_RETURN_CODES, REASON_NAMES


@pytest.mark.parametrize("module", [mqtt_core, mqtt_core.broker], ids=lambda each: each.__name__)
def test_all_is_what_is_there(module: types.ModuleType) -> None:
    offered = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(module.__all__) == offered - {"annotations"}
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_reasons_have_names() -> None:
    assert reason_name(0x87) == "not authorized"
    assert reason_name(0x7F) == "reason 0x7F"
    assert set(CONNACK_RETURN_CODES) <= set(REASON_NAMES)
