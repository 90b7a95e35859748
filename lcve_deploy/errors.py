"""Every error that the package raises on purpose.

    LcveError                          anything below
    ├── KeyFileError                   also ValueError: not a key file, or a damaged one
    ├── CheckpointError                also ValueError: weights missing, unexpected, not finite, ...
    │   └── UnsupportedModelError      a model that cannot be exact, or that nobody has described yet
    ├── ArtifactError                  also ValueError: an invalid folder, manifest or digest
    ├── SignatureError                 also ValueError: not signed, not by the pinned key, or not a key to pin
    ├── EncryptedClipError             also ValueError: not an encrypted clip, or a damaged one
    ├── SealingError                   also ValueError: sealed data that cannot be opened here
    ├── MismatchError                  also ValueError: key, clip and artifact do not belong together
    ├── VideoError                     also ValueError: not a video, or not one that can be sampled
    ├── ParityError                    also ArithmeticError: encrypted and plain logits differ
    ├── PrecisionError                 also ValueError: a model that a precision cannot hold
    ├── BuildError                     also RuntimeError: an engine cannot be built from a graph
    ├── SessionError                   also RuntimeError: an engine cannot be opened or run
    │   ├── DeviceError                an engine that this machine has no device for
    │   └── UnprovenError              an engine that has not answered the probe on this machine
    ├── RequestError                   also ValueError: a request that a server cannot take
    │   ├── UnknownModelError          a model or version that the server does not have
    │   └── TooLargeError              more bytes than the server takes
    ├── DeniedError                    also PermissionError: no token, a wrong one, or no certificate
    ├── UnavailableError               also ConnectionError: the server is away, full or not ready; try again
    │   └── RateError                  more requests than the server grants
    ├── DeadlineError                  also TimeoutError: no answer in the time that was given
    ├── ExistsError                    also FileExistsError: the output is there already
    ├── WriteError                     also OSError: the output could not be written
    └── MissingDependencyError         also ImportError: an optional package is not installed

Each carries what was expected and received in its message, and what to do in ``hint``.
"""

from __future__ import annotations

__all__ = [
    "ArtifactError",
    "BuildError",
    "CheckpointError",
    "DeadlineError",
    "DeniedError",
    "DeviceError",
    "EncryptedClipError",
    "ExistsError",
    "KeyFileError",
    "LcveError",
    "MismatchError",
    "MissingDependencyError",
    "ParityError",
    "PrecisionError",
    "RateError",
    "RequestError",
    "SealingError",
    "SessionError",
    "SignatureError",
    "TooLargeError",
    "UnavailableError",
    "UnknownModelError",
    "UnprovenError",
    "UnsupportedModelError",
    "VideoError",
    "WriteError",
]


class LcveError(Exception):
    """Base of all errors of this package.

    Args:
        message: what was expected and what was received, in one sentence.
        hint: what to do about it; empty if there is nothing to say.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class KeyFileError(LcveError, ValueError):
    """Not a key file, or a damaged one."""


class CheckpointError(LcveError, ValueError):
    """A checkpoint that cannot be read, or whose weights do not make the model they claim."""


class UnsupportedModelError(CheckpointError):
    """A model that cannot be exported exactly, or whose layout is not known."""


class ArtifactError(LcveError, ValueError):
    """An artifact folder, manifest or digest is invalid."""


class SignatureError(LcveError, ValueError):
    """A manifest that the pinned key has not signed, a damaged signature, or a file that is no public key."""


class EncryptedClipError(LcveError, ValueError):
    """Not an encrypted clip file, or a damaged one."""


class SealingError(LcveError, ValueError):
    """Sealed data that cannot be opened: changed, replayed, or not for this key, model or purpose."""


class MismatchError(LcveError, ValueError):
    """Key, clip and artifact that do not belong together."""


class VideoError(LcveError, ValueError):
    """Not a video, or not one that can be sampled."""


class ParityError(LcveError, ArithmeticError):
    """Logits on encrypted clips differ from the plain model's, or a control agrees."""


class PrecisionError(LcveError, ValueError):
    """A model that a precision cannot hold, or figures for one that are not its own."""


class BuildError(LcveError, RuntimeError):
    """An engine that cannot be built from a graph, or not be refitted with one."""


class SessionError(LcveError, RuntimeError):
    """An engine that cannot be opened or run."""


class DeviceError(SessionError):
    """An engine that this machine has no device for; it may run on another."""


class UnprovenError(SessionError):
    """An engine that has not answered the probe on this machine."""


class RequestError(LcveError, ValueError):
    """A request that a server cannot take; sent again, it fails again."""


class UnknownModelError(RequestError):
    """A model or version that the server does not have."""


class TooLargeError(RequestError):
    """A request of more bytes than the server takes."""


class DeniedError(LcveError, PermissionError):
    """No token, a wrong one, or a certificate that is not accepted."""


class UnavailableError(LcveError, ConnectionError):
    """A server that is away, full or not ready; the request has not been answered and may be sent again."""


class RateError(UnavailableError):
    """More requests in a short time than the server grants."""


class DeadlineError(LcveError, TimeoutError):
    """No answer in the time that was given."""


class ExistsError(LcveError, FileExistsError):
    """The output is there already; nothing is ever overwritten."""


class WriteError(LcveError, OSError):
    """The output could not be written; nothing of it is left."""


class MissingDependencyError(LcveError, ImportError):
    """An optional package that this step needs is not installed."""
