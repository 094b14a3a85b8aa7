"""Known defects of published corpora, found again."""

from pathlib import Path

import pytest
from test_hostile import LIMITS, firewall

from precis.corpora.checks import CHECKS
from precis.corpora.columns import Columns
from precis.corpora.files import FilesReader, Retries
from precis.corpora.splits import Shares
from precis.errors import PrecisError
from precis.stages.download import download
from precis.stages.prepare import prepare

CORPORA = Path(__file__).parents[2] / "../shared/data"
pytestmark = pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not here")


def sift(name, folder, references=None, max_shares=None):
    columns = Columns("document", "summary", "id", references)
    anywhere = {"train": None, "validation": None, "test": None}
    reader = FilesReader(str(CORPORA / name), anywhere, columns, LIMITS, Retries(1, 0.0), folder / "fetched")
    download(reader.read(), folder / "raw", shares=Shares(0.1, 0.1), by_time=False, max_rows=None)
    shares = dict.fromkeys(CHECKS, 1.0) | (max_shares or {})
    report = folder / "checks.json"
    return prepare(folder / "raw", folder / "prepared", report, firewall=firewall(), max_shares=shares)


def test_aeslc_has_the_copies_that_are_known(tmp_path):
    findings = sift("aeslc", tmp_path, references="references")
    assert findings.duplicates["train"] == 940
    assert findings.copies["test_in_validation"] == 218
    assert findings.copies["test_in_train"] == 8
    assert findings.near_copies["test_in_train"] > 0 and findings.duplicates["near_train"] > 0
    known = (CORPORA / "aeslc/test_clean_ids.txt").read_text().split()
    assert (tmp_path / "prepared/clean_test_ids.txt").read_text().split() == known


def test_aeslc_is_refused_unless_its_leaks_are_accepted(tmp_path):
    with pytest.raises(PrecisError, match=r"leakage: 11\.44% of the rows"):
        sift("aeslc", tmp_path, references="references", max_shares={"leakage": 0.05})


def test_dialogsum_has_the_copies_that_are_known(tmp_path):
    findings = sift("dialogsum", tmp_path, references="references")
    assert findings.duplicates["train"] == 1093
    assert findings.copies["validation_in_train"] == 51
    known = (CORPORA / "dialogsum/test_clean_ids.txt").read_text().split()
    assert (tmp_path / "prepared/clean_test_ids.txt").read_text().split() == known
