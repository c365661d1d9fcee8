import os

import pytest

from service.repository.folders import take_inventory
from service.repository.pins import read_pin, write_pin


def test_a_pin_is_written_read_and_taken_out(tmp_path):
    assert read_pin(tmp_path) is None
    write_pin(tmp_path, None)  # nothing to take out
    for number in (1, 12):
        write_pin(tmp_path, number)
        assert read_pin(tmp_path) == number
        assert (tmp_path / "pin").read_text() == f"{number}\n"
    write_pin(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["2", " 2\n", "2\r\n"])
def test_a_pin_by_hand(tmp_path, content):
    (tmp_path / "pin").write_text(content)
    assert read_pin(tmp_path) == 2


@pytest.mark.parametrize("content", ["", "0", "-1", "v1", "1 2", "latest", "1" * 100])
def test_what_is_no_version_is_no_pin_and_no_unpinning(tmp_path, content):
    model = tmp_path / "m"
    (model / "1").mkdir(parents=True)
    (model / "pin").write_text(content)
    with pytest.raises(ValueError, match="the number of a version"):
        read_pin(model)
    found = take_inventory(tmp_path)
    assert "m" not in found.pins
    assert "a pin is passed over" in found.passed_over[0]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pin")
    with pytest.raises(ValueError, match="the number of a version"):
        read_pin(tmp_path)
