"""Packages in the registry that a stranger made or changed: nothing in them runs, and each is refused."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from precis.errors import PrecisError
from precis.manifest import write_manifest
from precis.opening import open_summarizer
from precis.registry.lineage import verify
from precis.registry.packaging import unpacked
from precis.registry.versions import DIGEST_TAG, find_alias, get_version
from precis.stages.register import register

_SPEC = importlib.util.spec_from_file_location(
    "payload", Path(__file__).parents[1] / "security" / "payload.py"
)
payload_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(payload_module)


@pytest.fixture
def good(client, make_model):
    """A version as `register` makes it, and the folder of its package."""
    directory = make_model(generation="pointer_only")
    decoding = json.loads((directory / "text.json").read_text())["decoding"]
    where = Path("models"), Path("reports"), Path("reports/registered.json")
    register(*where, name="precis", metric="rouge1", experiment="precis", decoding=decoding)
    version = find_alias(client, "precis", "challenger")
    return version, next(Path("mlartifacts").rglob("MLmodel")).parent


def edit(package: Path, **changes) -> None:
    yaml = YAML(typ="safe")
    about = yaml.load(package / "MLmodel")
    about["flavors"]["python_function"].update(changes)
    yaml.dump(about, package / "MLmodel")


def pyfunc_pickle(package, payload):
    (package / "python_model.pkl").write_bytes(payload.pickled())
    edit(package, loader_module="mlflow.pyfunc.model", python_model="python_model.pkl", model_code_path=None)


def loader_module(package, payload):
    (package / "code").mkdir()
    (package / "code" / "evil_loader.py").write_text(payload.code() + "def _load_pyfunc(path): ...\n")
    edit(package, loader_module="evil_loader", code="code")


def code_folder(package, payload):
    (package / "code").mkdir()
    (package / "code" / "torch.py").write_text(payload.code())
    edit(package, code="code")


def pickle_module(package, payload):
    (package / "data").mkdir()
    (package / "data" / "pickle_module_info.txt").write_text("evil_pickle")
    (package / "data" / "model.pth").write_bytes(payload.torch_checkpoint())
    edit(package, loader_module="mlflow.pytorch", data="data")


def wrapper_code(package, payload):
    (package / "pyfunc_model.py").write_text(payload.code())


def other_wrapper(package, payload):
    (package / "evil.py").write_text(payload.code())
    edit(package, model_code_path="evil.py")


def yaml_object(package, payload):
    text = f"!!python/object/apply:os.system ['touch {payload.marker}']"
    (package / "MLmodel").write_text(f"flavors: {text}\n")


def pickled_weights(package, payload):
    (package / "artifacts/model/model.safetensors").write_bytes(payload.torch_checkpoint())


def pickled_weights_with_a_manifest(package, payload):
    pickled_weights(package, payload)
    write_manifest(package / "artifacts/model")


def pickled_settings(package, payload):
    (package / "artifacts/model/text.json").write_bytes(payload.pickled())


def one_byte(package, payload):
    path = package / "artifacts/model/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def manifest_that_climbs(package, payload):
    (package / "artifacts/model/manifest.json").write_text(json.dumps({"../../../evil": "0" * 64}))


def pickled_manifest(package, payload):
    (package / "artifacts/model/manifest.json").write_bytes(payload.pickled())


def no_manifest(package, payload):
    (package / "artifacts/model/manifest.json").unlink()


def link_out(package, payload):
    path = package / "artifacts/model/shared.txt"
    path.unlink()
    path.symlink_to("/etc/passwd")


def another_model(package, payload):
    """Whole, with a manifest that fits: but not what the registry has the digest of."""
    path = package / "artifacts/model/shared.txt"
    lines = path.read_text().splitlines()
    lines[4], lines[5] = lines[5], lines[4]
    path.write_text("\n".join(lines) + "\n")
    write_manifest(package / "artifacts/model")


def pickled_lineage(package, payload):
    (package / "lineage.json").write_bytes(payload.pickled())


ATTACKS = [
    pyfunc_pickle, loader_module, code_folder, pickle_module, wrapper_code, other_wrapper, yaml_object,
    pickled_weights, pickled_weights_with_a_manifest, pickled_settings, one_byte, manifest_that_climbs,
    pickled_manifest, no_manifest, link_out, another_model, pickled_lineage,
]  # fmt: skip
# precis neither runs nor reads these to summarize; `precis verify` tells of them
ONLY_VERIFY_TELLS = {wrapper_code, pickled_lineage}


def test_no_package_runs_code_and_each_is_refused(good, client, tmp_path):
    version, package = good
    payload = payload_module.Payload(tmp_path / "executed")
    assert payload.works()
    whole = tmp_path / "whole"
    shutil.copytree(package, whole)
    assert all(link.state != "failed" or link.name == "run" for link in verify(client, version, tmp_path))
    for attack in ATTACKS:
        shutil.rmtree(package)
        shutil.copytree(whole, package)
        attack(package, payload)
        states = {link.name: link for link in verify(client, version, tmp_path)}
        failed = [link.name for link in states.values() if link.state == "failed" and link.name != "run"]
        assert failed, attack.__name__
        if attack not in ONLY_VERIFY_TELLS:
            for load in (open_summarizer, lambda uri: unpacked(uri, digest=version.digest).__enter__()):
                with pytest.raises(PrecisError) as caught:
                    load(version.uri)
                assert len(str(caught.value)) < 2000 and "\x1b" not in str(caught.value)
        assert not payload.marker.exists(), attack.__name__
    shutil.rmtree(package)
    shutil.copytree(whole, package)
    assert open_summarizer(version.uri).summarize(["the meeting"])[0].text is not None


def test_the_model_that_mlflow_serves_checks_its_manifest_first(good, tmp_path):
    import mlflow.pyfunc

    version, package = good
    one_byte(package, None)
    with pytest.raises(Exception, match="does not match its manifest"):
        mlflow.pyfunc.load_model(version.uri)


def test_a_version_without_a_digest_is_checked_against_its_own_manifest(good, client):
    version, package = good
    client.delete_model_version_tag("precis", str(version.number), DIGEST_TAG)
    assert get_version(client, "precis", version.number).digest is None
    assert open_summarizer(version.uri)
    one_byte(package, None)
    with pytest.raises(PrecisError, match="does not match its manifest"):
        open_summarizer(version.uri)
