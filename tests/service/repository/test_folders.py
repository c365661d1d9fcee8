import os
import socket

import pytest

from service.repository.folders import stamp, take_inventory


@pytest.mark.parametrize("make", ["loop", "dangling", "pipe", "folder", "socket"])
def test_what_is_no_file_hides_no_other_model(tmp_path, make, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    for name in ("bad", "good"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.json").write_text("{}")
    odd = tmp_path / "bad" / "1" / "graph.json"
    if make == "loop":
        odd.symlink_to(odd)
    elif make == "dangling":
        odd.symlink_to("nowhere")
    elif make == "pipe":
        os.mkfifo(odd)
    elif make == "folder":
        odd.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("bad/1/graph.json")
    found = take_inventory(tmp_path)
    assert [folder.name for folder in found.folders] == ["bad", "good"]
    assert [name for name, *_ in stamp(tmp_path / "bad" / "1")] == ["model.json"]
