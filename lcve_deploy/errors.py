"""All errors of this package.

    LcveError                          base of all errors below
    ├── KeyFileError                   also ValueError: a key file is invalid
    ├── CheckpointError                also ValueError: weights are missing, unexpected, not finite, ...
    │   └── UnsupportedModelError      the model is not known, or cannot be exported exactly
    ├── ArtifactError                  also ValueError: a folder, manifest or digest is invalid
    ├── SignatureError                 also ValueError: a manifest is not signed by the pinned key
    ├── EncryptedClipError             also ValueError: an encrypted clip is invalid
    ├── SealingError                   also ValueError: sealed data cannot be opened
    ├── MismatchError                  also ValueError: key, clip and artifact do not belong together
    │   └── UnknownKeyError            the model has no key folder for the clips
    ├── VideoError                     also ValueError: a video cannot be read or sampled
    ├── ParityError                    also ArithmeticError: encrypted and plain logits differ
    ├── PrecisionError                 also ValueError: a model does not fit a precision
    ├── BuildError                     also RuntimeError: an engine cannot be built
    ├── SessionError                   also RuntimeError: an engine cannot be opened or run
    │   ├── DeviceError                this machine has no device for the engine
    │   ├── ForeignEngineError         this machine has not made the engine
    │   └── UnprovenError              the engine has not passed the probe on this machine
    ├── RequestError                   also ValueError: a server refuses a request
    │   ├── UnknownModelError          the server does not have the model or version
    │   └── TooLargeError              the request exceeds a limit of the server
    ├── DeniedError                    also PermissionError: a token or certificate is missing or invalid
    │   └── ForbiddenError             a web page's origin or the host name is not accepted, or a call not allowed
    ├── UnavailableError               also ConnectionError: a server is unreachable, overloaded or not ready
    │   └── RateError                  the client has exceeded its rate limit
    ├── DeadlineError                  also TimeoutError: there was no response in time
    ├── ExistsError                    also FileExistsError: the output already exists
    ├── WriteError                     also OSError: the output could not be written
    └── MissingDependencyError         also ImportError: an optional package is not installed

The message states what was expected and what was received; ``hint`` says what to do.
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
    "ForbiddenError",
    "ForeignEngineError",
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
    "UnknownKeyError",
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
        hint: what to do; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class KeyFileError(LcveError, ValueError):
    """A key file is damaged, or another kind of file."""


class CheckpointError(LcveError, ValueError):
    """A checkpoint cannot be read, or its weights do not match its model."""


class UnsupportedModelError(CheckpointError):
    """A model is not known, or cannot be exported exactly."""


class ArtifactError(LcveError, ValueError):
    """An artifact folder, manifest or digest is invalid."""


class SignatureError(LcveError, ValueError):
    """The pinned key has not signed a manifest, a signature is damaged, or a file is not a public key."""


class EncryptedClipError(LcveError, ValueError):
    """An encrypted clip file is damaged, or another kind of file."""


class SealingError(LcveError, ValueError):
    """Sealed data cannot be opened: it was changed, replayed, or is for another key, model or purpose."""


class MismatchError(LcveError, ValueError):
    """Key, clip and artifact do not belong together."""


class UnknownKeyError(MismatchError):
    """A model has no key folder for the key and the salt of the clips."""


class VideoError(LcveError, ValueError):
    """A video cannot be read or sampled."""


class ParityError(LcveError, ArithmeticError):
    """Logits on encrypted clips differ from the plain model's, or a negative control agrees."""


class PrecisionError(LcveError, ValueError):
    """A weight is out of range for the precision, or calibration ranges belong to another model."""


class BuildError(LcveError, RuntimeError):
    """An engine cannot be built."""


class SessionError(LcveError, RuntimeError):
    """An engine cannot be opened or run."""


class DeviceError(SessionError):
    """This machine does not have the device that an engine needs."""


class ForeignEngineError(SessionError):
    """An engine that this machine has not made, or that was changed since; it has not been opened."""


class UnprovenError(SessionError):
    """An engine has not passed the probe on this machine."""


class RequestError(LcveError, ValueError):
    """A server refuses a request as invalid; sending it again does not help."""


class UnknownModelError(RequestError):
    """The server does not have the requested model or version."""


class TooLargeError(RequestError):
    """The request exceeds the size limit of the server."""


class DeniedError(LcveError, PermissionError):
    """A token or client certificate is missing or invalid."""


class ForbiddenError(DeniedError):
    """A server does not accept the origin of a web page or the host name in a request, or does not allow a call."""


class UnavailableError(LcveError, ConnectionError):
    """A server is unreachable, overloaded or not ready; the request may be sent again.

    Args:
        message: what was expected and what was received, in one sentence.
        hint: what to do; may be empty.
        retry_after: seconds after which the server expects to accept the request; None if that is not known.
    """

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class RateError(UnavailableError):
    """The client has exceeded its rate limit."""


class DeadlineError(LcveError, TimeoutError):
    """There was no response in time."""


class ExistsError(LcveError, FileExistsError):
    """The output already exists; nothing is overwritten."""


class WriteError(LcveError, OSError):
    """The output could not be written; nothing is left."""


class MissingDependencyError(LcveError, ImportError):
    """A required optional package is not installed."""
