import asyncio
import logging
import os
import time

import pytest

from service.access.key_file import KeyFile
from service.access.keys import KeyScope, key_entry, new_key
from service.errors import SettingsError


def entry(name):
    return key_entry(name, new_key(), KeyScope.READ, None, None)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice"))
    path.chmod(0o600)
    return path


@pytest.fixture
def file(path):
    file = KeyFile(path)
    file.load()
    return file


def names(file):
    return [key.name for key in file.keys]


def test_before_it_is_loaded_there_are_no_keys(path):
    assert KeyFile(path).keys == ()


def test_a_file_that_is_not_sound_does_not_load(tmp_path):
    file = KeyFile(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="nowhere"):
        file.load()
    assert file.keys == ()


def test_a_change_counts_in_place_and_moved_into_place(file, path, caplog):
    with path.open("a") as opened:
        opened.write("\n" + entry("bob"))
    file.refresh()
    assert names(file) == ["alice", "bob"]
    before = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text().replace("bob", "rob"))
    other.chmod(0o600)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    file.refresh()
    assert names(file) == ["alice", "rob"]
    assert not caplog.records


def test_what_has_not_changed_is_not_read_again(file):
    before = file.keys
    file.refresh()
    assert file.keys is before


@pytest.mark.parametrize("content", ["[keys.a", "[keys.a]\nscope = 'read'\n", None])
def test_a_broken_file_leaves_the_keys_and_is_logged_once(file, path, caplog, content):
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    for _ in range(3):
        file.refresh()
    assert names(file) == ["alice"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert str(path) in record.getMessage()
    assert "the keys stay what they were" in record.getMessage()
    path.write_text(entry("bob"))
    path.chmod(0o600)
    file.refresh()
    assert names(file) == ["bob"]


def test_a_key_taken_back_is_gone_even_the_last(file, path, caplog):
    path.write_text("")
    file.refresh()
    assert file.keys == ()
    assert "holds no key" in caplog.text
    assert "mcdrop key" in caplog.text


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o660, True)]
)
def test_a_file_for_other_users_is_warned_of(path, caplog, mode, warned):
    path.chmod(mode)
    KeyFile(path).load()
    assert ("chmod 600" in caplog.text) == warned


def test_it_is_looked_at_each_second_until_cancelled(file, path):
    async def main():
        watching = asyncio.create_task(file.watch())
        path.write_text(entry("bob"))
        deadline = time.monotonic() + 20
        while names(file) != ["bob"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(main())
