"""A graph and the files of its external data, as the bytes that a runtime is given.

Native code never opens these files itself: it would open them again, by name, when they may be others. So the bytes
that are loaded are those whose digests were checked.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lcve_deploy.artifact.digests import FileRecord, hold_checked
from lcve_deploy.artifact.external import ExternalTensor, find_external
from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.inside import Buffer, HeldFile

__all__ = ["GraphFiles", "GraphSource", "read_graph"]

_HINT = "export the artifact again, or build the engine again"


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphFiles:
    """A graph that has been read.

    Args:
        path: of the graph, for messages.
        graph: its content.
        data: content of the files next to it that it names, by name.
        external: what it has in which of them.
    """

    path: Path
    graph: HeldFile
    data: Mapping[str, HeldFile]
    external: tuple[ExternalTensor, ...]

    @property
    def names(self) -> frozenset[str]:
        """Names of all its files."""
        return frozenset((self.path.name, *self.data))

    def contents(self) -> dict[str, Buffer]:
        """Content of the files next to the graph, by name."""
        return {name: file.data for name, file in self.data.items()}

    def values(self, tensor: ExternalTensor) -> memoryview:
        """Bytes of a tensor with external data."""
        return memoryview(self.data[tensor.location].data)[tensor.offset : tensor.offset + tensor.length]

    def require_unchanged(self) -> None:
        """Check that no file that is mapped was written to since it was opened.

        Raises:
            ArtifactError: names every file that was.
        """
        held = {self.path.name: self.graph, **self.data}
        if changed := [name for name, file in held.items() if file.changed]:
            raise ArtifactError(
                f"{', '.join(changed)} changed while {self.path.parent} was opened",
                hint="replace folders instead of writing into them, and try again",
            )

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Write the files to a private folder, for libraries that open them by name; it is removed at the end."""
        folder = Path(tempfile.mkdtemp(prefix="lcve-"))
        try:
            for name, file in {self.path.name: self.graph, **self.data}.items():
                (folder / name).write_bytes(file.data)
            yield folder / self.path.name
        finally:
            shutil.rmtree(folder, ignore_errors=True)


GraphSource = Path | GraphFiles
"""A graph that has been read, or the path of one that is read now."""


def read_graph(
    source: GraphSource, files: Mapping[str, FileRecord] | None = None, *, mapped: bool = True
) -> GraphFiles:
    """Read a graph and the files that it names, and check all of it before native code does.

    Args:
        source: path of the graph; what has been read already is returned.
        files: records of the files in its folder. Digests are checked, and no other file may be named. None for a
            graph that this process has just written.
        mapped: whether files may be mapped, which must then not be written to; by default they are.

    Raises:
        ArtifactError: a file that is missing, is a link or has another digest; not an ONNX graph; or external data
            that is not in a file next to the graph, or not within it.
    """
    if isinstance(source, GraphFiles):
        return source
    graph = hold_checked(source.parent, source.name, files, mapped=mapped)
    try:
        external = find_external(graph.data)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{source} cannot be used as an ONNX graph: {error}", hint=_HINT) from None
    names = sorted({tensor.location for tensor in external})
    data = {name: hold_checked(source.parent, name, files, mapped=mapped) for name in names}
    for tensor in external:
        size = len(data[tensor.location].data)
        if tensor.offset + tensor.length > size:
            raise ArtifactError(
                f"{source} names bytes {tensor.offset} to {tensor.offset + tensor.length} of {tensor.location} for "
                f"{tensor.name}, which has {size} bytes",
                hint=_HINT,
            )
    return GraphFiles(path=source, graph=graph, data=data, external=external)
