"""Get a checkpoint from a folder, or from the Hugging Face hub.

In: `hf:owner/name[@revision][/path/to/file]` or a path. Out: first what is known of the checkpoint,
or of the file, before anything is fetched; then a folder, or a path. Downloads live in
huggingface_hub's own cache. They go on at the byte where they broke off, and never hold code.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_et.export.checkpoint.provenance import (
    Checkpoint,
    CheckpointFile,
    checkpoint_in_folder,
    file_and_weights,
    license_of,
    needed_files,
    sha256_of,
    single_file,
)
from edge_et.export.errors import (
    HubAccessError,
    HubConnectionError,
    HubFileError,
    HubNameError,
    HubNotFoundError,
    OutputError,
)
from edge_et.export.steps import Progress, needing_extra, no_progress

with needing_extra("assemble"):
    from huggingface_hub import (
        HfApi,
        constants,
        get_hf_file_metadata,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import (
        WeakFileLock,
        are_progress_bars_disabled,
        build_hf_headers,
        disable_progress_bars,
        enable_progress_bars,
        httpx,
    )

PREFIX = "hf:"

_PLACE = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^\s@]+))?", re.ASCII)
_FILE_PLACE = re.compile(
    r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^\s@/]+))?/(?P<file>[^\s@]+)", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[\w-]+", re.ASCII)
_PARTIAL = ".edge-et.incomplete"
_LOOKS_PER_SECOND = 4
_TIMEOUT_S = 30


def find_checkpoint(place: str, *, weights: bool = True) -> Checkpoint:
    """Find a checkpoint and what is needed of it; nothing is fetched but its description.

    Args:
        place: `hf:owner/name`, `hf:owner/name@branch-tag-or-commit`, or a folder.
        weights: whether it has to hold tensors.

    Returns:
        The checkpoint. A branch or tag has become the commit that it points to now.

    Raises:
        HubNameError: `hf:` is followed by something else than a name.
        HubNotFoundError: there is no such repository or revision, or it is private.
        HubAccessError: the hub wants a token, or the token is not good enough.
        HubConnectionError: the hub cannot be reached, or fails.
        HubFileError: the repository lacks a config or weights.
        UnreadableCheckpointError: no such folder, or one without a config or weights.
    """
    if not place.startswith(PREFIX):
        return checkpoint_in_folder(Path(place), weights=weights)
    match = _PLACE.fullmatch(place.removeprefix(PREFIX))
    if match is None:
        raise HubNameError(place)
    found = _on_the_hub(place, match, lambda names: needed_files(names, weights=weights))
    if not found.files:
        tensors = ", or no model.safetensors or pytorch_model.bin" if weights else ""
        raise HubFileError(
            f"{place} has no config.json{tensors}: it is not a checkpoint in the format of "
            f"transformers; look at {found.url}"
        )
    return found


def find_file(place: str, suffix: str) -> Checkpoint:
    """Find one file; nothing is fetched but its description.

    Args:
        place: `hf:owner/name/path/to/file`, `hf:owner/name@revision/path/to/file`, where the
            revision has no slash, or a path.
        suffix: what the file's name has to end with, `.onnx` or `.gguf`.

    Returns:
        The repository, whose files are the one that was asked for and those of its weights.

    Raises:
        HubNameError: `hf:` is followed by something else than a repository and a file.
        HubFileError: the repository lacks the file.
        HubError: as `find_checkpoint` raises.
        UnreadableCheckpointError: no such file, or one of another kind.
    """
    if not place.startswith(PREFIX):
        return single_file(Path(place), suffix)
    match = _FILE_PLACE.fullmatch(place.removeprefix(PREFIX))
    if match is None or not match["file"].endswith(suffix):
        forms = f"{PREFIX}owner/name/path/to/file{suffix} or "
        raise HubNameError(place, f"{forms}{PREFIX}owner/name@revision/path/to/file{suffix}")
    wanted = match["file"]

    def file_of(names: Iterable[str]) -> list[str]:
        known = set(names)
        return file_and_weights(wanted, known) if wanted in known else []

    found = _on_the_hub(place, match, file_of)
    if not found.files:
        raise HubFileError(f"{place}: there is no such file; look at {found.url}")
    return found


def files_to_fetch(checkpoint: Checkpoint) -> list[CheckpointFile]:
    """Return the files of a checkpoint that are not here yet."""
    if checkpoint.folder is not None:
        return []
    name, revision = checkpoint.name, checkpoint.version
    return [
        file
        for file in checkpoint.files
        if not isinstance(try_to_load_from_cache(name, file.name, revision=revision), str)
    ]


def fetch_checkpoint(
    checkpoint: Checkpoint, progress: Progress = no_progress, *, weights: bool = True
) -> Path:
    """Download what is missing of a checkpoint, and check it.

    Args:
        checkpoint: from `find_checkpoint`.
        weights: whether its tensors are wanted; the other files are a few megabytes.
        progress: told the bytes, from a thread of its own.

    Returns:
        A folder with the checkpoint's files; for one of the hub, in huggingface_hub's cache.

    Raises:
        HubError: a file cannot be had, or is another one than the hub told; its children say why.
            What has arrived stays, and the next call goes on from there.
    """
    if checkpoint.folder is not None:
        return checkpoint.folder
    wanted = [file for file in checkpoint.files if weights or not file.is_weights]
    return _fetch(checkpoint, wanted, progress)["config.json"].parent


def fetch_file(checkpoint: Checkpoint, progress: Progress = no_progress) -> Path:
    """Download what is missing of a file and of those that hold its weights, and check it.

    Args:
        checkpoint: from `find_file`.
        progress: as for `fetch_checkpoint`.

    Returns:
        The file; its weights lie beside it.

    Raises:
        HubError: as `fetch_checkpoint` raises.
    """
    first = checkpoint.files[0].name
    if checkpoint.folder is not None:
        return checkpoint.folder / first
    return _fetch(checkpoint, list(checkpoint.files), progress)[first]


def _fetch(
    checkpoint: Checkpoint, wanted: list[CheckpointFile], progress: Progress
) -> dict[str, Path]:
    missing = [file for file in files_to_fetch(checkpoint) if file in wanted]
    api = HfApi(library_name="edge-et")
    paths: dict[str, Path] = {}
    with _quiet(), _counted(checkpoint, missing, progress):
        for file in wanted:
            with hub_errors(f"{PREFIX}{checkpoint.name}"):
                if file in missing:
                    _fetch_blob(checkpoint, file)
                paths[file.name] = Path(
                    api.hf_hub_download(checkpoint.name, file.name, revision=checkpoint.version)
                )
    for file in missing:
        progress(f"check {file.name}", 0, 1)
        _check(paths[file.name], file, checkpoint)
    return paths


def _on_the_hub(
    place: str, match: re.Match[str], choose: Callable[[Iterable[str]], list[str]]
) -> Checkpoint:
    name, revision = match["name"], match["revision"]
    with hub_errors(place):
        info = HfApi(library_name="edge-et").model_info(
            name, revision=revision or "main", files_metadata=True, timeout=_TIMEOUT_S
        )
    known = {sibling.rfilename: sibling for sibling in info.siblings or []}
    url = f"{constants.ENDPOINT}/{name}"
    commit = info.sha or ""
    if not _COMMIT.fullmatch(commit):
        raise HubConnectionError(place, f"{constants.ENDPOINT} tells no commit of it")
    return Checkpoint(
        name=name,
        version=commit,
        url=f"{url}/tree/{commit}",
        license=license_of(info.card_data, url),
        files=tuple(
            CheckpointFile(
                name=file,
                size_bytes=known[file].size,
                sha256=lfs.sha256 if (lfs := known[file].lfs) else None,
            )
            for file in choose(known)
        ),
        folder=None,
    )


def _fetch_blob(checkpoint: Checkpoint, file: CheckpointFile) -> None:
    """Download what a file holds to where huggingface_hub's cache looks for it.

    huggingface_hub 2 begins each download anew, and removes what has arrived when it fails. So the
    part that is here is kept under a name of ours.
    """
    url = hf_hub_url(checkpoint.name, file.name, revision=checkpoint.version)
    headers = build_hf_headers(library_name="edge-et")
    described = get_hf_file_metadata(url, headers=headers)
    if described.etag is None or not _ETAG.fullmatch(described.etag):
        raise HubConnectionError(
            f"{PREFIX}{checkpoint.name}", f"{constants.ENDPOINT} gives {file.name} no usable ETag"
        )
    folder = _cache_folder(checkpoint.name)
    blob = Path(constants.HF_HUB_CACHE, folder, "blobs", described.etag)
    lock = Path(constants.HF_HUB_CACHE, ".locks", folder, f"{described.etag}.lock")
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        partial = blob.with_name(f"{blob.name}{_PARTIAL}")
        with partial.open("ab") as stream:
            http_get(
                url,
                stream,
                resume_size=stream.tell(),
                headers=headers,
                expected_size=described.size,
            )
        os.replace(partial, blob)


def _cache_folder(name: str) -> str:
    return f"models--{name.replace('/', '--')}"


def _check(path: Path, file: CheckpointFile, checkpoint: Checkpoint) -> None:
    size_is_right = file.size_bytes in (None, path.stat().st_size)
    if size_is_right and file.sha256 in (None, sha256_of(path)):
        return
    path.resolve().unlink()
    path.unlink(missing_ok=True)
    raise HubFileError(
        f"{file.name} of {checkpoint.name} arrived damaged and was removed; run the command again"
    )


@contextmanager
def hub_errors(place: str) -> Iterator[None]:
    """Turn errors of the hub's client into errors of the tools, which say what to do."""
    try:
        yield
    except HFValidationError as err:
        raise HubNameError(place) from err
    except GatedRepoError as err:
        raise HubAccessError(
            f"{place} is gated: accept its conditions at {constants.ENDPOINT}/"
            f"{place.removeprefix(PREFIX).partition('@')[0]}, then log in with `hf auth login` "
            "or set HF_TOKEN"
        ) from err
    except RepositoryNotFoundError as err:
        raise HubNotFoundError(
            f"{place} is not on {constants.ENDPOINT}, or is private: check the name; "
            "for a private one log in with `hf auth login` or set HF_TOKEN"
        ) from err
    except RevisionNotFoundError as err:
        raise HubNotFoundError(
            f"{place} has no such revision: name a branch, a tag or a whole commit behind @"
        ) from err
    except LocalEntryNotFoundError as err:
        raise HubConnectionError(place, _reason(err.__cause__ or err)) from err
    except EntryNotFoundError as err:
        raise HubFileError(
            f"{place} has lost a file while it was read: {_first_line(err)}"
        ) from err
    except HfHubHTTPError as err:
        if err.response is not None and err.response.status_code in (401, 403):
            raise HubAccessError(
                f"{constants.ENDPOINT} refuses {place}: log in with `hf auth login`, or set "
                f"HF_TOKEN to a token that may read it ({_first_line(err)})"
            ) from err
        raise HubConnectionError(place, _reason(err)) from err
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        raise HubConnectionError(place, _reason(err)) from err
    except OSError as err:
        if err.errno is not None and not isinstance(err, ConnectionError):
            raise OutputError(Path(constants.HF_HUB_CACHE), err.strerror or str(err)) from err
        raise HubConnectionError(place, _reason(err)) from err
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise HubConnectionError(
            place, f"{constants.ENDPOINT} answers as no hub does ({err!r})"
        ) from err


def _reason(error: BaseException) -> str:
    if isinstance(error, httpx.TransportError):
        return f"no answer from {constants.ENDPOINT}"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Draw no bars of huggingface_hub's own."""
    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not quiet:
            enable_progress_bars()


@contextmanager
def _counted(
    checkpoint: Checkpoint, missing: list[CheckpointFile], progress: Progress
) -> Iterator[None]:
    """Tell the bytes that lie in the cache's folder, some times a second, while the block runs."""
    blobs = Path(constants.HF_HUB_CACHE, _cache_folder(checkpoint.name), "blobs")
    total = sum(file.size_bytes or 0 for file in missing)
    done = threading.Event()
    before = _bytes_in(blobs, whole=True)

    def look() -> None:
        while not done.wait(1 / _LOOKS_PER_SECOND):
            arrived = _bytes_in(blobs) - before
            progress(f"download {checkpoint.name}", min(max(arrived, 0), total), total)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _bytes_in(folder: Path, *, whole: bool = False) -> int:
    """Count the bytes of a folder's files; with `whole`, without those that are still to grow."""
    sizes = []
    for path in folder.glob("*"):
        try:
            if not (whole and path.name.endswith(_PARTIAL)):
                sizes.append(path.stat().st_size)
        except OSError:  # it was just renamed
            continue
    return sum(sizes)
