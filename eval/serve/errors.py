"""What breaks between us and a model server."""

from __future__ import annotations

from fusion.configure import Refusal


class ServerError(Refusal):
    """The server boundary broke: it did not start, refused, died, or answered with weights it was not asked to serve."""
