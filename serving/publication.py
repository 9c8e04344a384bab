"""What servers, and those who deploy them, need beside a version."""

from __future__ import annotations

import json
import pathlib

from serving.deploy.files import write_deploy_files
from serving.server_configs import write_server_configs
from serving.versions import add_version


def publish(version_dir: pathlib.Path) -> list[str]:
    """Writes all configurations beside a version, and tells servers of it if it is new.

    Args:
        version_dir: What `serving.export.write_version` wrote, in its place.

    Returns:
        The labels that point to it, see `serving.versions.add_version`.
    """
    model_dir = version_dir.parent
    metadata = json.loads((version_dir / "metadata.json").read_text(encoding="utf-8"))
    write_server_configs(model_dir)
    write_deploy_files(model_dir, metadata["requires_scann_ops"])
    return add_version(model_dir, int(version_dir.name))
