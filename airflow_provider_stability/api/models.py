"""What the API answers, parsed and validated once, as its OpenAPI documents (v1 and v1alpha) say it is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

__all__ = ["Account", "Balance", "Organization"]


class _Answer(BaseModel):
    # Strict: a string or a boolean where the specification has a number is a broken answer, not a number.
    # Extra fields are kept: the service may add some, and nothing of an account should get lost on the way.
    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class Organization(_Answer):
    """An organization that the account has a part in.

    :param id: such as ``org-123456``: what goes into the ``organization`` of a task or a connection.
    :param name: its name for people.
    :param role: the account's role in it, such as ``MEMBER``.
    :param is_default: whether requests without an organization are for this one.
    """

    id: str
    name: str
    role: str
    is_default: bool


class Account(_Answer):
    """The account that an API key belongs to.

    :param id: such as ``user-1234``.
    :param email: the owner's e-mail address: personal data.
    :param organizations: those the account has a part in.
    :param profile_picture: a URL; the service may leave it out.
    """

    id: str
    email: str
    organizations: tuple[Organization, ...]
    profile_picture: str | None = None

    @property
    def default_organization(self) -> Organization | None:
        """The organization that a request without one is for; None where the service marks none."""
        return next((each for each in self.organizations if each.is_default), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: what the service sent, no more and no less."""
        return self.model_dump(mode="json", exclude_unset=True)


class Balance(_Answer):
    """The credits of an organization.

    :param credits: finite; may be negative, which is simply not enough for anything.
    """

    credits: FiniteFloat
