"""The file backend of checkpoints: files are written atomically."""

from collections.abc import Collection
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ..checkpoints.files import write_whole

BACKEND_NAME = 'whole_file'


class WholeFileBackend(LocalBackend):
    """A local disk on which a file appears only when it is complete.

    The host deletes an old checkpoint before it writes the new one. Here `remove` only
    notes a file, and `remove_outdated` deletes it.
    """

    def __init__(self) -> None:
        self._outdated: list[Path] = []

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; after a kill or on a full disk, an earlier file is unchanged."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        write_whole(obj, filepath)

    def remove(self, filepath: str | Path) -> None:
        """Note a file for `remove_outdated`."""
        self._outdated.append(Path(filepath))

    def remove_outdated(self, *, keep: Collection[str] = ()) -> None:
        """Delete the noted files.

        Args:
            keep: Files that have been written again since they were noted.
        """
        kept = {Path(path) for path in keep}
        for path in self._outdated:
            if path not in kept:
                path.unlink(missing_ok=True)
        self._outdated.clear()


register_backend(BACKEND_NAME, WholeFileBackend, force=True)
