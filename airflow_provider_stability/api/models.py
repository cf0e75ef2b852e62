"""The responses of the API, validated against its OpenAPI documents (v1 and v1alpha)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

__all__ = ["Account", "Balance", "Organization"]


class _Answer(BaseModel):
    # Strict: a string or a boolean instead of a number makes a response invalid. Unknown fields are kept: the
    # service may add some, and an account is passed on unchanged.
    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class Organization(_Answer):
    """An organization that the account is a member of.

    :param id: such as ``org-123456``; the ``organization`` of a task or a connection.
    :param name: its display name.
    :param role: the account's role in it, such as ``MEMBER``.
    :param is_default: whether requests without an organization use this one.
    """

    id: str
    name: str
    role: str
    is_default: bool


class Account(_Answer):
    """The account that an API key belongs to.

    :param id: such as ``user-1234``.
    :param email: the owner's e-mail address: personal data.
    :param organizations: those the account is a member of.
    :param profile_picture: a URL; the service may omit it.
    """

    id: str
    email: str
    organizations: tuple[Organization, ...]
    profile_picture: str | None = None

    @property
    def default_organization(self) -> Organization | None:
        """The organization that requests without one use; None if the service marks none."""
        return next((each for each in self.organizations if each.is_default), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: exactly what the service sent."""
        return self.model_dump(mode="json", exclude_unset=True)


class Balance(_Answer):
    """The credits of an organization.

    :param credits: finite; may be negative, which is never enough.
    """

    credits: FiniteFloat
