"""Configuration: TOML file, environment and flags become one checked `Settings`."""

from __future__ import annotations

from iotd.config._keys import KEYS, SECTIONS, Key, Value
from iotd.config._origin import Origin
from iotd.config._problems import ConfigError, Problem, printable
from iotd.config._records import Rule, User
from iotd.config._settings import Settings, load
from iotd.config._show import FORMATS, show

__all__ = [
    "FORMATS",
    "KEYS",
    "SECTIONS",
    "ConfigError",
    "Key",
    "Origin",
    "Problem",
    "Rule",
    "Settings",
    "User",
    "Value",
    "load",
    "printable",
    "show",
]
