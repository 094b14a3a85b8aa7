"""What the code of precis itself never does, and which versions of others it is locked to."""

import ast
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
CODE = [path for folder in ("src", "flows") for path in sorted((ROOT / folder).rglob("*.py"))]

BANNED_MODULES = {
    *("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"),
    *("torch.hub", "xmlrpc", "telnetlib", "runpy", "imp", "yaml"),
}
BANNED_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.hub.load", "torch.jit.load"),
    *("torch.package.PackageImporter", "numpy.load", "np.load", "pandas.read_pickle", "pd.read_pickle"),
    *("mlflow.pyfunc.load_model", "mlflow.pytorch.load_model", "tempfile.mktemp"),
    *("shutil.unpack_archive", "mlflow.artifacts.load_dict"),
}
# it runs the stages of the project itself, by name
ALLOWED = {("src/precis/search/child.py", "runpy")}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def findings(text: str) -> list[str]:
    """What a file does that code which reads strangers' files must not do."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in BANNED_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            found += [name for name in names if name in BANNED_MODULES or name in BANNED_CALLS]
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in BANNED_CALLS:
                found.append(name)
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if name in ("torch.load", "load_from_checkpoint") or name.endswith(".load_from_checkpoint"):
                only = keywords.get("weights_only")
                if not (isinstance(only, ast.Constant) and only.value is True):
                    found.append(f"{name} without weights_only=True")
            for argument in ("trust_remote_code", "allow_pickle", "shell"):
                value = keywords.get(argument)
                if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
                    found.append(f"{argument} in {name}")
            if name.endswith("YAML") and not isinstance(keywords.get("typ"), ast.Constant) and node.args:
                found.append("YAML of an unsafe kind")
            kind = keywords.get("typ")
            if isinstance(kind, ast.Constant) and kind.value == "unsafe":
                found.append("YAML of an unsafe kind")
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_unpickles_evaluates_or_fetches_code(path):
    where = str(path.relative_to(ROOT))
    assert [one for one in findings(path.read_text()) if (where, one) not in ALLOWED] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from torch import hub",
        "import joblib",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "Model.load_from_checkpoint(path)",
        "eval(text)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "datasets.load_dataset(name, trust_remote_code=True)",
        "YAML(typ='unsafe')",
    ],
)
def test_the_search_finds_what_it_is_for(text):
    assert findings(text)


# the least versions without a known hole: see docs/security.md
FLOORS = {
    "torch": "2.10",
    "pytorch-lightning": "2.6.6",
    "mlflow": "3.17",
    "prefect": "3.8",
    "starlette": "1.0.1",
    "datasets": "5",
    "pyarrow": "23.0.1",
    "nltk": "3.10",
}
CEILINGS = {"fastapi": "0.151", "sqlalchemy": "2.1"}  # with newer ones Prefect does not work
DENIED = {
    ("lightning", "2.6.2"), ("lightning", "2.6.3"), ("pytorch-lightning", "2.6.2"), ("pytorch-lightning", "2.6.3"),
}  # fmt: skip
UNWANTED = {"transformers": "5.3"}  # not needed; if it ever comes in, at least this
DISKCACHE_HOLE = "diskcache"  # unpickles its own cache: see docs/security.md


def locked() -> dict[str, list[Version]]:
    """The versions of constraints.txt; a package has several where platforms differ."""
    versions: dict[str, list[Version]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            versions.setdefault(name, []).append(Version(pin.version))
    return versions


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_a_locked_version_is_at_or_above_its_floor(name, floor):
    assert locked()[name] and min(locked()[name]) >= Version(floor)


@pytest.mark.parametrize(("name", "ceiling"), CEILINGS.items())
def test_a_locked_version_works_with_prefect(name, ceiling):
    assert max(locked()[name]) < Version(ceiling)


def test_no_version_that_was_malicious_is_locked_or_allowed():
    found = {(name, str(version)) for name, versions in locked().items() for version in versions}
    assert not found & DENIED
    project = (ROOT / "pyproject.toml").read_text()
    for name, version in DENIED:
        for line in re.findall(rf'^\s*"({name}[\[><=!~].*?)"', project, re.MULTILINE):
            assert version not in Requirement(line).specifier, line
    for name, floor in UNWANTED.items():
        assert all(version >= Version(floor) for version in locked().get(name, []))


def test_every_locked_version_is_exact_and_from_an_index():
    text = (ROOT / "constraints.txt").read_text()
    assert "@" not in text and "://" not in text and "file:" not in text
