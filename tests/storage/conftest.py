"""Stores that are closed when a test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mqtt_core.broker import Limits
from tests.storage.rig import DURABLE, KINDS, Kind, Store

OpenStore = Callable[..., Store]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    yield from _opening(request.param, tmp_path)


@pytest.fixture(params=DURABLE, ids=lambda kind: kind.name)
def open_durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    yield from _opening(request.param, tmp_path)


def _opening(kind: Kind, folder: Path) -> Iterator[OpenStore]:
    stores: list[Store] = []

    def open_store(**limits: int) -> Store:
        stores.append(Store(kind, folder / f"store{len(stores)}", Limits(**limits)))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()
