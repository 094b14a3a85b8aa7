import json
import shutil
from pathlib import Path

import pytest

from precis.commands.compare import compare
from precis.errors import PrecisError


@pytest.fixture
def project(reports, monkeypatch):
    shutil.copy(Path(__file__).parents[2] / "params.yaml", reports.parent / "params.yaml")
    monkeypatch.chdir(reports.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{reports.parent / 'mlflow.db'}")
    return reports.parent


def test_it_writes_a_page_and_tells_the_differences(project, capsys):
    output = project / "reports" / "compare.html"
    compare("attention", "reports/pointer", output=output, as_json=True, log=False)
    told = json.loads(capsys.readouterr().out)
    assert told["documents"] == 12
    means = [
        json.loads((project / "reports" / name / "metrics.json").read_text())["rouge1"]
        for name in ("attention", "pointer")
    ]
    assert told["difference_rouge1"] == pytest.approx(means[1] - means[0])
    assert "pointer compared with attention" in output.read_text()


def test_a_baseline_can_be_compared_with(project, capsys):
    compare("lead_1", "pointer", output=project / "page.html", as_json=False, log=False)
    assert "rouge1" in capsys.readouterr().out


def test_a_name_that_nothing_has_is_told(project):
    with pytest.raises(PrecisError, match=r"'nix' is no folder with metrics.json, no name in reports/"):
        compare("attention", "nix", output=project / "page.html", as_json=False, log=False)
