"""Whose conversations a call finds."""

from gannet_service import call

_USER = "user:"


def owner() -> str:
    """The user that the credentials name; empty where they name none, so that all such callers of a tenant are one."""
    users = (identity for identity in call.principal().identities if identity.startswith(_USER))
    return next(users, "")


def identity() -> str:
    """Everything that decides what the caller may read; callers of a tenant who share it see the same."""
    return "\n".join(call.principal().identities)
