"""Helpers for your own test suite: check that an artifact still has the logits of its checkpoint.

An example, with a key file that only CI can read::

    import os
    from lcve_deploy import SecurityKey
    from lcve_deploy.testing import assert_parity

    def test_encrypted_service_answers_like_the_plain_model():
        assert_parity(
            "videomae-lcve",
            key=SecurityKey.read(os.environ["LCVE_KEY_FILE"]),
            checkpoint="videomae.pth",
        )
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lcve_deploy.errors import ParityError
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.parity import ParityReport
from lcve_deploy.verbs.verify import verify

if TYPE_CHECKING:
    from lcve_deploy.exporters.checkpoints import CheckpointOptions

__all__ = ["assert_parity"]


def assert_parity(
    artifact: str | os.PathLike[str],
    *,
    key: SecurityKey,
    checkpoint: str | os.PathLike[str],
    options: CheckpointOptions | None = None,
    clips: Sequence[str | os.PathLike[str]] = (),
    tolerance: float | None = None,
    thorough: bool = False,
) -> ParityReport:
    """Fail the test unless encrypted and plain logits agree and every negative control disagrees.

    Args:
        artifact: folder with ``server/`` and ``client/``.
        key: key of the artifact.
        checkpoint: the checkpoint that it was exported from.
        options: facts that the checkpoint does not contain.
        clips: videos to compare on; by default built-in real clips and noise.
        tolerance: largest ``|Δlogit|`` that counts as equal; by default that of the export.
        thorough: compare with a float64 reference, and on more built-in clips.

    Returns:
        The figures, for further checks.

    Raises:
        AssertionError: a figure exceeds its bound; the message names both.
        LcveError: as for ``verify``.
    """
    report = verify(
        artifact,
        key=key,
        checkpoint=checkpoint,
        options=options,
        clips=clips,
        tolerance=tolerance,
        thorough=thorough,
    )
    try:
        report.require()
    except ParityError as error:
        raise AssertionError(str(error)) from error
    return report
