"""Download checkpoints by their id on a model hub, and resolve folders of the hub's cache.

Only files that cannot contain code are downloaded: configuration, processors and safetensors. ``huggingface_hub``
does the download, so ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_OFFLINE`` and tokens work as usual.

Source: ``huggingface_hub``, "Understand caching": ``models--org--name/`` with ``blobs/``, ``refs/`` and ``snapshots/``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from lcve_deploy.errors import CheckpointError, MissingDependencyError
from lcve_deploy.exporters.checkpoints.reading import read_json_file

__all__ = ["HubId", "cached_source", "fetch", "require_own_files", "snapshot"]

_PART: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_ID: Final = re.compile(rf"({_PART}/{_PART})(?:@({_PART}(?:/{_PART})*))?")
_FILE_ENDINGS: Final = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".json", ".onnx", ".tar", ".zip")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SETTINGS: Final = (
    "config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "model.safetensors.index.json",
)
_EXPECTED: Final = "expected a model in the format of transformers; see docs/reference/checkpoints.md"
_WEIGHTS: Final = "model.safetensors"
_SHARD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")


@dataclass(frozen=True, kw_only=True)
class HubId:
    """Id of a model on a hub.

    Args:
        name: ``org/name``.
        revision: branch, tag or commit; None for the default branch.
    """

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse ``org/name[@revision]``; return None if the text is not an id, or looks like the path of a file."""
        found = _ID.fullmatch(text)
        if found is None or found[1].lower().endswith(_FILE_ENDINGS) or "--" in found[1] or ".." in text:
            return None
        return cls(name=found[1], revision=found[2])

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


def fetch(hub_id: HubId) -> tuple[Path, str]:
    """Download a model to the hub's cache, except for files that are already there.

    Returns:
        Folder of the model in the cache, and ``org/name@commit``.

    Raises:
        MissingDependencyError: ``huggingface_hub`` is not installed.
        CheckpointError: there is no such model or revision, the hub cannot be reached, or the model has no
            safetensors weights.
    """
    folder = _download(hub_id, hub_id.revision, _SETTINGS)
    commit = folder.name
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"the model {hub_id} on the hub has no config.json", hint=_EXPECTED)
    folder = _download(hub_id, commit, _weight_files(folder))
    if not any((folder / name).is_file() for name in _weight_files(folder)):
        raise CheckpointError(
            f"the model {hub_id} on the hub has no safetensors weights, and pickles are not downloaded",
            hint="if you trust the model, download it yourself and pass its folder",
        )
    return folder, f"{hub_id.name}@{commit}"


def _weight_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the weight files, one or several shards; never a pattern that could match other files."""
    index = folder / f"{_WEIGHTS}.index.json"
    if not index.is_file():
        return (_WEIGHTS,)
    shards = read_json_file(index).get("weight_map")
    names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    if wrong := [name for name in names if not _SHARD.fullmatch(name)]:
        raise CheckpointError(
            f"{index.name} of the model names {wrong[0][:100]!r}, which is not a safetensors file", hint=_EXPECTED
        )
    return tuple(names)


def _download(hub_id: HubId, revision: str | None, names: tuple[str, ...]) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
    except ImportError:
        raise MissingDependencyError(
            f"there is no file or folder {hub_id}; it looks like the id of a model on the hub, and downloading it "
            "needs huggingface_hub",
            hint="pip install 'lcve-deploy[hub]', or pass the path of a checkpoint",
        ) from None
    try:
        return Path(snapshot_download(hub_id.name, revision=revision, allow_patterns=list(names)))
    except (HTTPError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise CheckpointError(
            f"there is no file or folder {hub_id}; it looks like the id of a model on the hub, but it cannot be "
            f"downloaded: {type(error).__name__}: {reason}",
            hint="check the path, or the id, the revision and your access to the hub",
        ) from None


def snapshot(folder: Path) -> Path:
    """Return the snapshot inside a model's folder of the hub's cache, or any other folder unchanged.

    Raises:
        CheckpointError: there are no snapshots, or several and ``refs/main`` selects none of them.
    """
    snapshots = folder / "snapshots"
    if (folder / "config.json").exists() or not snapshots.is_dir() or not (folder / "blobs").is_dir():
        return folder
    found = sorted(path for path in snapshots.iterdir() if path.is_dir())
    reference = folder / "refs/main"
    commit = reference.read_bytes()[:64].decode("ascii", "replace").strip() if reference.is_file() else ""
    chosen = [path for path in found if path.name == commit] or found
    if len(chosen) != 1:
        names = ", ".join(path.name for path in found[:4]) or "none"
        raise CheckpointError(f"expected one snapshot in {snapshots}, found {names}", hint="pass one of them")
    return chosen[0]


def cached_source(folder: Path) -> str | None:
    """Return ``org/name@commit`` of a snapshot in the hub's cache, or None for any other folder."""
    repository = folder.resolve().parent.parent
    parts = repository.name.split("--")
    is_cached = folder.resolve().parent.name == "snapshots" and parts[0] == "models" and _COMMIT.fullmatch(folder.name)
    return f"{'/'.join(parts[1:])}@{folder.name}" if is_cached and len(parts) == 3 else None


def require_own_files(folder: Path) -> None:
    """Check that links stay in their folder or, in a snapshot of the hub's cache, in the blobs of the same model.

    Raises:
        CheckpointError: a link leads elsewhere, or to a missing file.
    """
    own = folder.resolve()
    cache = own.parent.parent
    allowed = [own, cache / "blobs"] if own.parent.name == "snapshots" and (cache / "blobs").is_dir() else [own]
    for path in sorted(folder.iterdir()):
        if not path.is_symlink():
            continue
        target = path.resolve()
        if not any(target.is_relative_to(place) for place in allowed):
            raise CheckpointError(
                f"{path} is a link that leaves the folder",
                hint="replace links by the files themselves; only links in the hub's cache are followed",
            )
        if not target.exists():
            raise CheckpointError(
                f"{path} is a link to a missing file: the cache is incomplete", hint="download the model again"
            )
