"""What the README tells people to type exists, and its example is the one that is tested."""

import pathlib
import re

import pytest
import yaml
from typer.main import get_command

from pipelines.cli import app
from pipelines.config import RunConfig

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", re.findall(r"^fairtowers .*$", README, flags=re.MULTILINE))
def test_commands_of_the_readme_exist_with_their_options(line):
    name, *arguments = line.split()[1:]
    command = get_command(app).commands[name]
    if hasattr(command, "commands"):
        command = command.commands[arguments[0]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {a for a in arguments if a.startswith("--")} <= known
    if "configs/" in line:
        assert (ROOT / re.search(r"configs/\S+", line).group()).is_file()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z-]+)", README))))
def test_make_targets_of_the_readme_exist(target):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_yaml_of_the_readme_is_a_run_configuration_of_about_ten_lines():
    text = re.search(r"```yaml\n(.*?)```", README, flags=re.DOTALL).group(1)
    RunConfig.model_validate(yaml.safe_load(text))
    assert len(text.splitlines()) <= 11
