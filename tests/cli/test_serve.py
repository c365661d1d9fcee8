import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request

import pytest

MAIN = "from mcdrop.cli import main; main()"


def environment(**values):
    return {**os.environ, "MCDROP_PORT": "1", "MCDROP_MODELS": "/nowhere", **values}


def test_options_win_over_the_environment_and_a_signal_stops_it(artifacts):
    command = [
        sys.executable, "-c", MAIN, "serve", "--models", str(artifacts), "--port", "0",
        "--host", "127.0.0.1", "--device", "cpu", "--grpc-port", "0",
    ]  # fmt: skip
    given = environment(MCDROP_HOST="no.such.host", MCDROP_GRPC_PORT="1")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=given) as process:
        try:
            address = next(
                match[1] for line in process.stderr if (match := re.search(r"(http://\S+)", line))
            )
            with urllib.request.urlopen(f"{address}/v1/models", timeout=30) as response:
                assert "classes" in json.dumps(json.load(response))
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
    assert process.returncode == 0
    assert int(re.search(r"listening on grpc://127\.0\.0\.1:(\d+)", rest)[1]) > 1


def test_the_environment_counts_where_no_option_is_given():
    run = subprocess.run(
        [sys.executable, "-c", MAIN, "serve"],
        capture_output=True, text=True, check=False, timeout=120, env=environment(),
    )  # fmt: skip
    assert run.returncode == 1
    assert "/nowhere" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_bad_setting_is_one_line(mcdrop, artifacts):
    result = mcdrop("serve", "--models", artifacts, "--device", "toaster")
    assert result.exit_code == 1
    assert "device" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert mcdrop("serve", "--port", 70000).exit_code == 2


@pytest.mark.parametrize("absent", ["fastapi", "pydantic_settings"])
def test_without_the_extra_it_says_what_to_install(absent):
    code = f"import sys; sys.modules[{absent!r}] = None; {MAIN}"
    run = subprocess.run(
        [sys.executable, "-c", code, "serve"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert absent in line
    assert "pip install 'mcdrop[service]'" in line


def test_print_config_says_what_counts_and_why_and_does_not_start(mcdrop, tmp_path, monkeypatch):
    path = tmp_path / "server.toml"
    path.write_text("port = 1\nmax_rows = 7\nqueue_size = 8\n")
    monkeypatch.setenv("MCDROP_MAX_ROWS", "9")
    options = ("--models", "/nowhere", "--port", 0, "--config", path)
    result = mcdrop("serve", *options, "--print-config")
    assert result.exit_code == 0, result.stderr
    found = tomllib.loads(result.stdout)
    said = (found["port"], found["max_rows"], found["queue_size"], found["models"])
    assert said == (0, 9, 8, "/nowhere")
    for line in (
        "# MCDROP_PORT; option\nport = 0",
        "# MCDROP_MAX_ROWS; environment\nmax_rows = 9",
        "# MCDROP_QUEUE_SIZE; file\nqueue_size = 8",
        "# MCDROP_DEVICE; default\ndevice = ",
        "# Most rows in one request\n",
    ):
        assert line in result.stdout
    monkeypatch.delenv("MCDROP_MAX_ROWS")
    path.write_text(result.stdout)
    again = mcdrop("serve", "--config", path, "--print-config")
    assert tomllib.loads(again.stdout) == found


def test_a_bad_file_is_one_line(mcdrop, tmp_path):
    path = tmp_path / "server.toml"
    path.write_text("prot = 1")
    for named in (path, tmp_path / "nowhere.toml"):
        result = mcdrop("serve", "--config", named)
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"mcdrop: settings file '{named}': ")


def test_a_file_and_keys_are_in_force(artifacts, mcdrop, tmp_path):
    keys, config = tmp_path / "keys.toml", tmp_path / "server.toml"
    key = mcdrop("key", "alice", "--file", keys).stdout.strip()
    config.write_text(f'port = 0\ndevice = "cpu"\nmodels = "{artifacts}"')
    command = [
        sys.executable, "-c", MAIN, "serve", "--config", str(config), "--api-keys", str(keys),
    ]  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MCDROP_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean) as process:
        try:
            address = next(
                match[1] for line in process.stderr if (match := re.search(r"(http://\S+)", line))
            )
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"{address}/v1/models", timeout=30)
            asked = urllib.request.Request(f"{address}/v1/models", headers={"X-API-Key": key})
            with urllib.request.urlopen(asked, timeout=30) as response:
                assert response.status == 200
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
    assert process.returncode == 0
    assert key not in rest
