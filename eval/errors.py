"""Which boundary broke: the server under test, the judge, or a benchmark's own package.

All are refusals, so the command prints one message and exits with status 2; finished records stay on disk and the
same command continues from them.
"""

from __future__ import annotations

from fusion.runtime.configure import Refusal


class ServerFailure(Refusal):
    """The endpoint that serves the checkpoint under test refused, timed out, died, or served other weights."""


class JudgeFailure(Refusal):
    """The judge could not be asked at all: no key, a refused connection, an endpoint that is not what was configured.

    One reply that cannot be read is no failure: it becomes `eval.records.Unscored`.
    """


class HarnessFailure(Refusal):
    """A benchmark's own package or data did not do what its published protocol says."""
