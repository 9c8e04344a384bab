"""File systems in memory, which Beam finds by their schemes as it finds those of buckets."""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem


class FakeFileSystem(FileSystem):
    """An object store: `fake://bucket/name`. An object is there once it is closed.

    Attributes:
        objects: Path to content, and the second of the last change.
        log: What was done, in order: `("create", path)`, `("rename", path)`.
    """

    objects: ClassVar[dict[str, tuple[bytes, int]]] = {}
    log: ClassVar[list[tuple[str, str]]] = []

    @classmethod
    def scheme(cls) -> str:
        return "fake"

    @classmethod
    def put(cls, path: str, content: bytes) -> None:
        cls.objects[path] = (content, len(cls.log))

    @classmethod
    def names(cls, folder: str) -> list[str]:
        prefix = folder.rstrip("/") + "/"
        return sorted(p.removeprefix(prefix) for p in cls.objects if p.startswith(prefix))

    def create(self, path: str, mime_type: str = "", compression_type: str = "") -> BinaryIO:
        self.log.append(("create", path))
        return _Upload(self, path)

    def open(self, path: str, mime_type: str = "", compression_type: str = "") -> BinaryIO:
        return io.BytesIO(self._object(path)[0])

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            self.log.append(("rename", target))
            self.objects[target] = self.objects.pop(source)

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            self._object(path)
            del self.objects[path]

    def exists(self, path: str) -> bool:
        return path in self.objects

    def metadata(self, path: str) -> FileMetadata:
        content, changed = self._object(path)
        return FileMetadata(path, len(content), changed)

    def size(self, path: str) -> int:
        return self.metadata(path).size_in_bytes

    def last_updated(self, path: str) -> float:
        return self.metadata(path).last_updated_in_seconds

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        return (self.metadata(p) for p in sorted(self.objects) if p.startswith(dir_or_prefix))

    def _object(self, path: str) -> tuple[bytes, int]:
        if path not in self.objects:
            raise BeamIOError(f"no such object: {path}")
        return self.objects[path]

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        folder, _, name = path.rpartition("/")
        return folder, name

    def has_dirs(self) -> bool:
        return False

    def mkdirs(self, path: str) -> None:
        raise NotImplementedError

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise NotImplementedError

    def checksum(self, path: str) -> str:
        raise NotImplementedError


class RefusingFileSystem(FakeFileSystem):
    """Renames over no file, as HDFS: `refusing://`."""

    objects: ClassVar[dict[str, tuple[bytes, int]]] = {}
    log: ClassVar[list[tuple[str, str]]] = []

    @classmethod
    def scheme(cls) -> str:
        return "refusing"

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        if taken := [path for path in destination_file_names if self.exists(path)]:
            raise BeamIOError(f"there already: {taken}")
        super().rename(source_file_names, destination_file_names)


class _Upload(io.BytesIO):
    def __init__(self, files: FakeFileSystem, path: str) -> None:
        super().__init__()
        self._files, self._path = files, path

    def close(self) -> None:
        if not self.closed:
            self._files.put(self._path, self.getvalue())
        super().close()

    def __exit__(self, *error: Any) -> None:
        self.close()  # With an error, too: so do the clients of object stores.
