"""Finding TensorRT: the library ``tensorrt`` (10 and 11) or ``tensorrt_rtx`` (1.x), for one code path over both.

What they have in common is used as it is. What one of them lacks is looked for in the library
itself, by the name of an attribute or of an enum's member, and not told from its version.
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
_KEPT_MESSAGES: Final = 64
_QUOTE_LENGTH: Final = 300
_SHOWN_ERRORS: Final = 5


class Log:
    """What a library said at WARNING and above; nothing of it goes to the terminal.

    Args:
        module: the library.
    """

    def __init__(self, module: Any) -> None:
        self._errors: deque[str] = deque(maxlen=_KEPT_MESSAGES)
        self._warnings: deque[str] = deque(maxlen=_KEPT_MESSAGES)
        self.logger = _logger(module, self._errors, self._warnings)

    def clear(self) -> None:
        """Forget what was said, before a step that may fail."""
        self._errors.clear()
        self._warnings.clear()

    def quote(self) -> str:
        """The first error since ``clear``, which names the cause; else the last warning."""
        said = self._errors[0] if self._errors else self._warnings[-1] if self._warnings else "it gave no reason"
        line = " ".join(said.split())
        return line if len(line) <= _QUOTE_LENGTH else f"{line[:_QUOTE_LENGTH]}..."


@dataclass(frozen=True, kw_only=True)
class TensorRT:
    """An installed library.

    Args:
        kind: ``tensorrt`` or ``tensorrt-rtx``; also the name of the extra that installs it.
        name: as its maker writes it.
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
        """The library's one log: it keeps the first logger that it is given, and ignores others."""
        return _log_of(self.module)

    def member(self, enum: str, name: str) -> Any | None:
        """A member of one of the library's enums; None where it has no such member or enum."""
        return getattr(getattr(self.module, enum, None), name, None)


def find_tensorrt(kind: str) -> TensorRT:
    """Load the library of a kind.

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
    """Compute capabilities that a library can build for, such as ``("7.5", "8.0")``; empty if it does not say.

    TensorRT-RTX lists them and leaves out data-centre GPUs: 1.6.1 and 1.7.1 know 7.5 to 8.9, 12.0 and 12.1, but not
    9.0 (H100, H200). TensorRT builds for the GPU of the machine and has no such list.
    """
    members = getattr(getattr(library.module, "ComputeCapability", None), "__members__", {})
    numbers = sorted(int(match[1]) for name in members if (match := _CAPABILITY.fullmatch(name)))
    return tuple(f"{number // 10}.{number % 10}" for number in numbers)


def dtype_name(dtype: Any) -> str:
    """NumPy's name of a library's ``DataType``, for example ``float32``."""
    name = str(dtype.name)
    return _DTYPES.get(name, name.lower())


def numeric_version(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparing: ``10.14.1.48.post1`` is (10, 14, 1, 48)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def parser_errors(parser: Any) -> str:
    """Everything that a parser, or a parser that refits, found wrong; empty if nothing is."""
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    lines = list(dict.fromkeys(_line(error) for error in errors))
    more = f"; and {len(lines) - _SHOWN_ERRORS} more" if len(lines) > _SHOWN_ERRORS else ""
    return "; ".join(lines[:_SHOWN_ERRORS]) + more


def refit_engine(library: TensorRT, engine: Any, model: Path) -> str:
    """Put the weights of an ONNX file into an engine that was built refittable or stripped.

    Written by the documentation of both libraries; no refit has run on hardware yet.

    Returns:
        What went wrong; empty if nothing did. After a failure the engine is of no use.

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
    where = " ".join(part for part in (error.node_operator(), error.node_name()) if part)
    return f"{where}: {error.desc()}" if where else str(error.desc())


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
    """An ``ILogger`` of the library that appends to lists."""
    severity = module.ILogger.Severity
    lists = {severity.INTERNAL_ERROR: errors, severity.ERROR: errors, severity.WARNING: warnings}

    class Collector(module.ILogger):  # type: ignore[misc]  # a class of a library without types
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in lists:
                lists[severity].append(message)

    return Collector()
