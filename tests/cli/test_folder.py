import pytest

from mcdrop.cli.folder import check_folder, publish
from mcdrop.errors import InputError

NAMES = ("metrics.json", "report.html")


def test_a_check_makes_nothing_and_publishing_does(tmp_path):
    folder = tmp_path / "a" / "report"
    check_folder(folder, NAMES, force=False)
    assert not (tmp_path / "a").exists()
    publish(folder, {"metrics.json": "{}"})
    assert [path.name for path in folder.iterdir()] == ["metrics.json"]


def test_what_would_fail_late_is_told_early(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match=r"file is a file: name a folder for metrics\.json"):
        check_folder(file, NAMES, force=False)
    with pytest.raises(InputError, match="file is a file: name a folder elsewhere"):
        check_folder(file / "a" / "report", NAMES, force=False)
    (tmp_path / "report.html").write_text("")
    with pytest.raises(InputError, match=r"holds report\.html already.*--force"):
        check_folder(tmp_path, NAMES, force=False)
    check_folder(tmp_path, NAMES, force=True)


def test_a_place_where_nothing_can_be_made_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # root may write anywhere
    with pytest.raises(InputError, match="nothing can be made in"):
        check_folder(tmp_path / "report", NAMES, force=False)
