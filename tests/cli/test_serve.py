import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

MAIN = "from mcdrop.cli import main; main()"


def environment(**values):
    return {**os.environ, "MCDROP_PORT": "1", "MCDROP_MODELS": "/nowhere", **values}


def test_options_win_over_the_environment_and_a_signal_stops_it(artifacts):
    command = [
        sys.executable, "-c", MAIN, "serve", "--models", str(artifacts), "--port", "0",
        "--host", "127.0.0.1", "--device", "cpu",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(MCDROP_HOST="no.such.host")
    ) as process:
        try:
            address = next(
                match[1] for line in process.stderr if (match := re.search(r"(http://\S+)", line))
            )
            with urllib.request.urlopen(f"{address}/v1/models", timeout=30) as response:
                assert "classes" in json.dumps(json.load(response))
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
    assert process.returncode == 0


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
