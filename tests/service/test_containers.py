"""The container files, as far as they can be tried without an engine that builds them."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from compose_spec import PyCompose
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = YAML(typ="safe").load((ROOT / "compose.yaml").read_text())


def test_the_dockerfile_passes_its_linter():
    linted = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_compose_file_is_one():
    services = set(PyCompose.from_yaml((ROOT / "compose.yaml").read_text()).service_names())
    assert services == {"api", "database", "mlflow", "prefect"}


def test_what_the_images_copy_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    assert copied
    for name in copied:
        assert (ROOT / name).exists() and f"!{name}" in ignored


def test_stages_follow_from_one_another_and_compose_builds_those_that_exist():
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    names: list[str] = []
    for parent, name in stages:
        assert parent in names or parent.startswith("python:3.11-slim")
        names.append(name)
    for name in re.findall(r"--from=(\S+)", DOCKERFILE):
        assert name in names
    targets = {one["build"]["target"] for one in COMPOSE["services"].values() if "build" in one}
    assert targets == {"service", "servers"} <= set(names)
    # neither runs as root
    for name in targets:
        body = DOCKERFILE.split(f"AS {name}\n")[1].split("\nFROM ")[0]
        assert "USER 10001" in body


def test_every_package_of_the_images_has_a_pinned_version():
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    for block in re.findall(r"-c constraints\.txt \\\n((?:    .*\n?)+)", DOCKERFILE):
        for package in block.replace("\\", " ").split():
            assert "==" in package or package.split("[")[0] in pinned, package


def test_the_service_imports_nothing_that_its_image_lacks():
    """A finder that hides all other packages, in a process that starts `precis serve`'s modules."""
    block = DOCKERFILE.split("AS build-service")[1].split("COPY")[0].split("constraints.txt \\\n")[1]
    packages = block.replace("\\", " ").split()
    code = """
import sys, re
from importlib.metadata import distribution, packages_distributions
from packaging.requirements import Requirement

wanted, seen = [*sys.argv[1:], "precis"], set()
while wanted:
    name = re.sub("[-_.]+", "-", wanted.pop()).lower()
    if name in seen: continue
    seen.add(name)
    try: found = distribution(name)
    except Exception: continue
    if name == "precis": continue
    for text in found.requires or ():
        one = Requirement(text)
        if one.marker is None or one.marker.evaluate({"extra": ""}): wanted.append(one.name)
allowed = {top for top, names in packages_distributions().items()
           if any(re.sub("[-_.]+", "-", name).lower() in seen for name in names)}
known = set(packages_distributions())
class Hider:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in known and top not in allowed:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)
sys.meta_path.insert(0, Hider())
import precis.cli, precis.commands.serve, precis.service.app, precis.service.server, precis.service.swap
import precis.registry.resolve, precis.registry.packaging, precis.serving.summarizer, precis.training.tracking
import pkgutil, importlib, precis.commands
for module in pkgutil.iter_modules(precis.commands.__path__): importlib.import_module("precis.commands." + module.name)
print("fine", len(allowed) < len(known))
"""
    tried = subprocess.run([sys.executable, "-c", code, *packages], capture_output=True, text=True)
    assert tried.stdout == "fine True\n", tried.stderr


@pytest.mark.parametrize("name", ["mlflow", "prefect"])
def test_the_commands_of_the_servers_have_these_options(name):
    command = [str(part) for part in COMPOSE["services"][name]["command"]]
    options = {part.split("=")[0] for part in command if part.startswith("--")}
    words = [part for part in command if re.fullmatch("[a-z]+", part)]
    help_text = subprocess.run([BIN / words[0], *words[1:], "--help"], capture_output=True, text=True).stdout
    assert options
    for option in options:
        assert option in help_text


def test_the_command_of_the_service_is_understood():
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)[0])
    command = [*entry, *COMPOSE["services"]["api"]["command"]]
    # without a token it must refuse, and that is as far as it gets
    tried = subprocess.run([BIN / command[0], *command[1:]], capture_output=True, text=True, timeout=120)
    assert tried.returncode == 1 and "can be reached from other machines" in tried.stderr, shlex.join(command)


def test_everything_is_published_on_this_machine_only_and_has_its_health_checked():
    for name, service in COMPOSE["services"].items():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
        assert "healthcheck" in service or name == "api"  # the image has its own
    assert "HEALTHCHECK" in DOCKERFILE
