"""DVC does not follow Python imports: what a stage imports must be among its `deps`, and nothing else of ours."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def modules_imported_by(file: Path) -> set[Path]:
    """Files of precis that a file imports anywhere, also inside functions and for type checking."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "with_name"
        ):
            # code that another process runs from its file
            (argument,) = node.args
            if isinstance(argument, ast.Constant) and str(argument.value).endswith(".py"):
                found.add(file.with_name(argument.value))
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "precis":
                found |= files_of(name)
    return found


def files_of(module: str) -> set[Path]:
    """The module's file and the __init__ files that are run before it."""
    parts = module.split(".")
    files = {SOURCE.joinpath(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)}
    files.add(SOURCE.joinpath(*parts).with_suffix(".py"))
    return {file for file in files if file.is_file()}


def import_closure(stage: str) -> set[Path]:
    closure: set[Path] = set()
    waiting = files_of(f"precis.stages.{stage}")
    while waiting:
        file = waiting.pop()
        if file not in closure:
            closure.add(file)
            waiting |= modules_imported_by(file)
    # pages are drawn from the folder beside the module that names it
    folders = {file.parent / "templates" for file in closure if '"templates"' in file.read_text()}
    return closure | {template for folder in folders for template in folder.iterdir()}


def declared(stage: str) -> set[Path]:
    files: set[Path] = set()
    for dependency in STAGES[stage]["deps"]:
        path = ROOT / dependency
        if dependency.startswith("src/"):
            code = (".py", ".j2", ".css", ".js")
            found = [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix in code]
            assert found, f"{stage}: {dependency} does not exist"
            files |= set(found)
    return files


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_that_it_imports(stage):
    wanted = {str(file.relative_to(ROOT)) for file in import_closure(stage)}
    assert {str(file.relative_to(ROOT)) for file in declared(stage)} == wanted, (
        f"deps of {stage} in dvc.yaml should be:\n" + "\n".join(f"      - {file}" for file in sorted(wanted))
    )
