"""Load ``tensorrt`` (10 and 11) or ``tensorrt_rtx`` (1.x) behind one interface.

Features that only one of them has are detected by the name of an attribute or enum member, not by
version.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import MissingDependencyError

__all__ = [
    "TENSORRT",
    "TENSORRT_RTX",
    "Log",
    "TensorRT",
    "buildable_capabilities",
    "create",
    "dtype_name",
    "find_tensorrt",
    "numeric_version",
    "parser_errors",
    "refit_engine",
]

TENSORRT: Final = "tensorrt"
TENSORRT_RTX: Final = "tensorrt-rtx"

_NAMES: Final = {TENSORRT: "TensorRT", TENSORRT_RTX: "TensorRT-RTX"}
_DTYPES: Final = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
_CAPABILITY: Final = re.compile(r"SM(\d+)")
_MAX_MESSAGES: Final = 64
_QUOTE_LENGTH: Final = 300
_SHOWN_ERRORS: Final = 5


class Log:
    """Messages of a library at WARNING and above, collected instead of printed to the terminal.

    Args:
        module: the library.
    """

    def __init__(self, module: Any) -> None:
        self._errors: deque[str] = deque(maxlen=_MAX_MESSAGES)
        self._warnings: deque[str] = deque(maxlen=_MAX_MESSAGES)
        self.logger = _logger(module, self._errors, self._warnings)

    def clear(self) -> None:
        """Discard all messages, before a step that may fail."""
        self._errors.clear()
        self._warnings.clear()

    def quote(self) -> str:
        """Return the first error since ``clear``, which names the cause, or else the last warning."""
        message = self._errors[0] if self._errors else self._warnings[-1] if self._warnings else "it gave no reason"
        line = " ".join(message.split())
        return line if len(line) <= _QUOTE_LENGTH else f"{line[:_QUOTE_LENGTH]}..."


@dataclass(frozen=True, kw_only=True)
class TensorRT:
    """An installed library, TensorRT or TensorRT-RTX.

    Args:
        kind: ``tensorrt`` or ``tensorrt-rtx``; also the name of the extra that installs it.
        name: product name, for messages.
        version: of the library, for example ``11.4.0.106``.
        module: the Python module.
    """

    kind: str
    name: str
    version: str
    module: Any = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def log(self) -> Log:
        """The only log of the library, which uses the first logger that it receives and ignores all others."""
        return _log_of(self.module)

    def member(self, enum: str, name: str) -> Any | None:
        """Return a member of one of the library's enums, or None if it has no such member or enum."""
        return getattr(getattr(self.module, enum, None), name, None)


def find_tensorrt(kind: str) -> TensorRT:
    """Load TensorRT or TensorRT-RTX.

    Args:
        kind: ``tensorrt`` or ``tensorrt-rtx``.

    Raises:
        MissingDependencyError: it is not installed, or cannot be loaded.
        ValueError: another kind.
    """
    if kind not in _NAMES:
        raise ValueError(f"expected one of {', '.join(_NAMES)}, received {kind!r}")
    try:
        module = _load(kind)
    except ImportError as error:
        raise MissingDependencyError(
            f"{_NAMES[kind]} is not installed, or cannot be loaded: {error}",
            hint=f"pip install 'lcve-deploy[{kind}]'",
        ) from error
    return TensorRT(kind=str(kind), name=_NAMES[kind], version=str(module.__version__), module=module)


def buildable_capabilities(library: TensorRT) -> tuple[str, ...]:
    """Return the compute capabilities that a library can build for, such as ``("7.5", "8.0")``; empty if unknown.

    TensorRT-RTX lists them and omits data-centre GPUs: 1.6.1 and 1.7.1 support 7.5 to 8.9, 12.0 and 12.1, but not
    9.0 (H100, H200). TensorRT builds for the GPU of the machine and has no such list.
    """
    members = getattr(getattr(library.module, "ComputeCapability", None), "__members__", {})
    numbers = sorted(int(match[1]) for name in members if (match := _CAPABILITY.fullmatch(name)))
    return tuple(f"{number // 10}.{number % 10}" for number in numbers)


def create(library: TensorRT, name: str) -> Any | None:
    """Create a ``Builder`` or ``Runtime``, or return None if the library cannot start; the log then has the reason.

    The library returns nothing, and its bindings raise TypeError, for example if the driver is missing or too old.
    """
    library.log.clear()
    try:
        return getattr(library.module, name)(library.log.logger)
    except TypeError:
        return None


def dtype_name(dtype: Any) -> str:
    """Return NumPy's name for a ``DataType``, for example ``float32``."""
    name = str(dtype.name)
    return _DTYPES.get(name, name.lower())


def numeric_version(version: str) -> tuple[int, ...]:
    """Return the numbers of a version for comparison: ``10.14.1.48.post1`` is (10, 14, 1, 48)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def parser_errors(parser: Any) -> str:
    """Return the errors of a parser or refit parser as one line; empty if there are none."""
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    lines = list(dict.fromkeys(_line(error) for error in errors))
    more = f"; and {len(lines) - _SHOWN_ERRORS} more" if len(lines) > _SHOWN_ERRORS else ""
    return "; ".join(lines[:_SHOWN_ERRORS]) + more


def refit_engine(library: TensorRT, engine: Any, model: Path) -> str:
    """Refit a refittable or stripped engine with the weights of an ONNX file.

    Follows the documentation of both libraries; no refit has run on hardware yet.

    Returns:
        The error; empty on success. After a failure the engine is unusable.

    Source: documentation of TensorRT, "Refitting an Engine"; of TensorRT-RTX, "CPU-Only AOT and
    TensorRT-RTX Engines", refitting directly with ONNX models.
    """
    library.log.clear()
    refitter = library.module.Refitter(engine, library.log.logger)
    parser = library.module.OnnxParserRefitter(refitter, library.log.logger)
    if not parser.refit_from_file(str(model)):
        return parser_errors(parser) or library.log.quote()
    if not refitter.refit_cuda_engine():
        missing = ", ".join(refitter.get_missing_weights())
        return library.log.quote() + (f" (weights missing: {missing})" if missing else "")
    return ""


def _line(error: Any) -> str:
    node = " ".join(part for part in (error.node_operator(), error.node_name()) if part)
    return f"{node}: {error.desc()}" if node else str(error.desc())


def _load(kind: str) -> Any:
    if kind == TENSORRT_RTX:
        import tensorrt_rtx

        return tensorrt_rtx
    import tensorrt

    return tensorrt


@functools.cache
def _log_of(module: Any) -> Log:
    return Log(module)


def _logger(module: Any, errors: deque[str], warnings: deque[str]) -> Any:
    """Create an ``ILogger`` of the library that appends to the given lists."""
    severity = module.ILogger.Severity
    lists = {severity.INTERNAL_ERROR: errors, severity.ERROR: errors, severity.WARNING: warnings}

    class Collector(module.ILogger):  # type: ignore[misc]  # the library is untyped
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in lists:
                lists[severity].append(message)

    return Collector()
