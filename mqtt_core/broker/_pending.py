"""What goes on when a storage engine has answered."""

from __future__ import annotations

from mqtt_core._store import Completion, Failed


class Pending:
    """Waits for one request."""

    def done(self, completion: Completion) -> None:
        """The request has been carried out."""
        raise NotImplementedError

    def failed(self, failure: Failed) -> None:
        """The request was refused and has no effect."""
        raise NotImplementedError
