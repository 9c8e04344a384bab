"""Keeps the versions loaded that `models.config` asks for, without ever leaving a gap."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.server.errors import Code, StatusError
from serving.server.loader import LoadedVersion, load_version
from serving.server.models_config import base_path, validate, wanted_versions
from serving.server.version_state import State, Version, folder_content

_LOG = logging.getLogger(__name__)

_ENDED_VERSIONS_KEPT = 100
"""Versions per model that are no longer loaded and still have a status."""


@dataclasses.dataclass
class _Model:
    versions: dict[int, Version] = dataclasses.field(default_factory=dict)
    labels: dict[str, int] = dataclasses.field(default_factory=dict)

    def available(self) -> list[int]:
        return [n for n, v in self.versions.items() if v.state == State.AVAILABLE]


class VersionManager:
    """The loaded versions. All methods belong to the event loop; loading runs on a thread."""

    def __init__(self, config: Any, mount: pathlib.Path) -> None:
        """Initialises the manager; nothing is loaded before `apply`.

        Args:
            config: `ModelServerConfig`.
            mount: See `models_config.base_path`.

        Raises:
            StatusError: The configuration cannot be served.
        """
        validate(config)
        self._config = config
        self._mount = mount
        self._models: dict[str, _Model] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._lock = asyncio.Lock()
        self._unloading: set[asyncio.Task] = set()

    @property
    def names(self) -> set[str]:
        """Models that the configuration lists."""
        return {model.name for model in self._config.model_config_list.config}

    def missing(self) -> dict[str, StatusError | None]:
        """Returns models without an available version, with the error of one if there is one."""
        answer = {}
        for name in sorted(self.names):
            model = self._models.get(name, _Model())
            if not model.available():
                errors = [v.error for v in model.versions.values() if v.error is not None]
                answer[name] = errors[-1] if errors else None
        return answer

    @contextlib.contextmanager
    def borrow(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> Iterator[LoadedVersion]:
        """Lends a version, which stays loaded until it is given back.

        Args:
            name: Of the model.
            version: Its number.
            label: In place of a number; with neither, the latest available version is meant.

        Raises:
            StatusError: There is no such version.
        """
        found = self._find(name, version, label)
        found.requests += 1
        try:
            assert found.loaded is not None
            yield found.loaded
        finally:
            found.release()

    def _find(self, name: str, version: int | None, label: str | None) -> Version:
        if not name:
            raise StatusError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        model = self._models.get(name, _Model())
        if label is not None:
            version = self._labelled(model, label)
        if version is None:
            latest = max(model.available(), default=None)
            wanted = f"Latest({name})"
        else:
            latest, wanted = version, f"Specific({name}, {version})"
        found = model.versions.get(latest) if latest is not None else None
        if found is None or found.state != State.AVAILABLE:
            raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
        return found

    def _labelled(self, model: _Model, label: str) -> int:
        if label not in model.labels:
            raise StatusError(
                Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}"
            )
        return model.labels[label]

    def statuses(self, name: str, version: int | None, label: str | None) -> dict[int, Version]:
        """Returns versions of a model by number, newest first.

        TensorFlow Serving answers a label with all versions; here it is that of the label.

        Raises:
            StatusError: There is no such model or version.
        """
        model = self._models.get(name, _Model())
        if label is not None:
            version = self._labelled(model, label)
        if version is not None:
            if version not in model.versions:
                raise StatusError(
                    Code.NOT_FOUND, f"Could not find version {version} of model {name}"
                )
            return {version: model.versions[version]}
        if not model.versions:
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return dict(sorted(model.versions.items(), reverse=True))

    async def reload(self, config: Any) -> None:
        """Takes over a configuration, as `HandleReloadConfigRequest` asks for.

        Args:
            config: `ModelServerConfig`.

        Raises:
            StatusError: It cannot be served; a label would move to a version that is not
                available; or a new model did not become available.
        """
        validate(config)
        for model in config.model_config_list.config:
            self._check_labels(model)
        before = self.names
        self._config = config
        await self.apply()
        failed = {name: e for name, e in self.missing().items() if name not in before}
        if failed:
            reasons = ", ".join(
                f"{{name: {name}{f' due to error: {error}' if error else ''}}}"
                for name, error in failed.items()
            )
            raise StatusError(
                Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{reasons}}}"
            )

    def _check_labels(self, model: Any) -> None:
        known = self._models.get(model.name, _Model())
        for label, version in model.version_labels.items():
            moves = known.labels.get(label, version) != version
            if moves and version not in known.available():
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {model.name}, which "
                    "is not currently available for inference",
                )

    def take_over(self, config: Any) -> None:
        """Takes over a configuration that the next `apply` brings about, labels included.

        Raises:
            StatusError: It cannot be served; the present one stays.
        """
        validate(config)
        self._config = config

    async def apply(self) -> None:
        """Loads what is asked for and is not there, then unloads what is not asked for any more.

        A version is unloaded only when another one is available, unless its model is not listed
        any more. A version that cannot be loaded keeps its error as its status, and is tried
        again when its folder has changed.
        """
        async with self._lock:
            config = self._config
            for model in config.model_config_list.config:
                await self._apply_model(model)
            listed = {model.name for model in config.model_config_list.config}
            for name in set(self._models) - listed:
                self._unload_all_but(name, set())

    async def _apply_model(self, config: Any) -> None:
        model = self._models.setdefault(config.name, _Model())
        try:
            wanted = wanted_versions(config, base_path(config, self._mount))
        except StatusError as error:
            _LOG.warning("%s", error)
            return
        for number, folder in wanted.items():
            await self._load(config.name, number, folder)
        available = set(model.available())
        labels = dict(config.version_labels)
        # A label stays where it is until the version that it should move to is available.
        model.labels = {
            label: version if version in available else model.labels[label]
            for label, version in labels.items()
            if version in available or model.labels.get(label) in available
        }
        if available & set(wanted):
            self._unload_all_but(config.name, set(wanted) | set(model.labels.values()))

    async def _load(self, name: str, number: int, folder: pathlib.Path) -> None:
        versions = self._models[name].versions
        known = versions.get(number)
        content = folder_content(folder)
        if known is not None and (
            known.loaded is not None or (known.error is not None and known.content == content)
        ):
            return
        versions[number] = entry = Version(State.LOADING, content=content)
        loop = asyncio.get_running_loop()
        try:
            entry.loaded = await loop.run_in_executor(
                self._executor, load_version, name, number, folder
            )
            entry.state = State.AVAILABLE
            _LOG.info("Version %d of %s is available.", number, name)
        except StatusError as error:
            entry.state, entry.error = State.END, error
            _LOG.error("Version %d of %s could not be loaded: %s", number, name, error)

    def _unload_all_but(self, name: str, kept: set[int]) -> None:
        for number in set(self._models[name].available()) - kept:
            entry = self._models[name].versions[number]
            entry.state = State.UNLOADING
            task = asyncio.get_running_loop().create_task(self._unload(name, number, entry))
            self._unloading.add(task)
            task.add_done_callback(self._unloading.discard)

    async def _unload(self, name: str, number: int, entry: Version) -> None:
        await entry.wait_until_unused()
        loaded, entry.loaded = entry.loaded, None
        assert loaded is not None
        await asyncio.get_running_loop().run_in_executor(self._executor, loaded.close)
        entry.state = State.END
        _LOG.info("Version %d of %s is unloaded.", number, name)
        versions = self._models[name].versions
        ended = [n for n, v in versions.items() if v.state == State.END]
        for old in ended[:-_ENDED_VERSIONS_KEPT]:
            del versions[old]

    async def close(self) -> None:
        """Unloads everything."""
        for name in self._models:
            self._unload_all_but(name, set())
        await asyncio.gather(*self._unloading)
        self._executor.shutdown()
