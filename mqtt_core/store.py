"""The contract of a storage engine, for the clients and whoever writes an engine."""

from mqtt_core._store import Completion, Done, Engine, Failed, Request, Write

__all__ = ["Completion", "Done", "Engine", "Failed", "Request", "Write"]
