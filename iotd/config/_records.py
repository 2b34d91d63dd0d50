"""The tables that a list in the configuration is made of: users and access rules."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

Text = Annotated[str, Meta(min_length=1)]


class User(Struct, frozen=True, kw_only=True):
    """One client that may log in: a name and either a hash of its password or the password."""

    name: Annotated[Text, Meta(description="User name, as sent in CONNECT.")]
    password_hash: Annotated[
        str,
        Meta(
            description="Hash of the password, made by `iotd hash-password`; with `--scram` one "
            "that serves SCRAM-SHA-256 too."
        ),
    ] = ""
    password: Annotated[
        str, Meta(description="The password itself: for trying things out; prefer the hash.")
    ] = ""

    def __repr__(self) -> str:
        kind = "password_hash" if self.password_hash else "password"
        return f"User(name={self.name!r}, {kind}=...)"


class Rule(Struct, frozen=True, kw_only=True):
    """One line of the access rules; the first that fits decides, and what none fits is denied."""

    topic: Annotated[
        Text,
        Meta(
            description="Topic filter that the topic must match. `%u` and `%c` stand for the "
            "client's user name and client id, each as one whole level; a name with `+`, `#` or "
            "`/` fits no rule that has it."
        ),
    ]
    action: Annotated[
        Literal["publish", "subscribe", "all"],
        Meta(description="What is allowed or denied. Wills count as `publish`."),
    ] = "all"
    user: Annotated[
        str, Meta(description="The user it is about; empty for every client, also without a name.")
    ] = ""
    allow: Annotated[bool, Meta(description="`false` denies.")] = True


HIDDEN: Final = frozenset({"password", "password_hash"})
"""Fields that are never printed."""
