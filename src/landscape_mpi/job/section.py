"""What all sections of a job share, and the kinds of values they are made of; knows no section."""

from typing import Annotated

from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1)]
Seed = Annotated[int, Meta(ge=0, le=2**62)]


class Values(Struct, frozen=True, forbid_unknown_fields=True):
    """What all sections of a job share: frozen, no unknown keys."""
