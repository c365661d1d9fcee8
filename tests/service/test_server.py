"""The server as a process: ports, signals, exit codes."""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

BODY = {"inputs": [[1, 2, 3]]}


def fail(**settings):
    environment = os.environ | {f"MCDROP_{key}": str(value) for key, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "service"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(spawn, repository, number):
    with spawn(repository) as server:
        server.process.send_signal(number)
        log = server.read_rest()
    assert server.process.returncode == 0, log
    assert log.rstrip().endswith("stopped")
    assert "Traceback" not in log


@pytest.mark.parametrize("seconds", [0, 0.2, 0.5, 1])
def test_a_signal_while_models_are_read_stops_it_cleanly(repository, seconds):
    settings = {"MODELS": repository, "PORT": 0, "DEVICE": "cpu"}
    environment = os.environ | {f"MCDROP_{key}": str(value) for key, value in settings.items()}
    with subprocess.Popen(
        [sys.executable, "-m", "service"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Application startup complete" in line:
                time.sleep(seconds)
                process.terminate()
    assert process.returncode == 0, "".join(lines)
    assert lines[-1].endswith("stopped\n")


def test_a_stop_finishes_the_requests_that_have_begun(spawn, repository):
    with spawn(repository, drain_seconds=120) as server:
        url = f"http://127.0.0.1:{server.port}/v1/models/shapes/predict"
        rows = [[0.1, 0.2, 0.3, 0.4]] * 128
        body = {"inputs": rows, "samples": 2000, "outputs": ["entropy"]}
        answers = queue.Queue()
        asking = [
            threading.Thread(target=lambda: answers.put(httpx.post(url, json=body, timeout=120)))
            for _ in range(12)
        ]
        for thread in asking:
            thread.start()
        first = answers.get(timeout=60)
        server.process.send_signal(signal.SIGTERM)
        assert answers.qsize() < 11, "requests must be waiting when the signal comes"
        for thread in asking:
            thread.join(120)
        log = server.read_rest()
    statuses = [first.status_code] + [answers.get_nowait().status_code for _ in range(11)]
    assert statuses == [200] * 12, log
    assert server.process.returncode == 0, log
    with pytest.raises(httpx.ConnectError):
        httpx.post(url, json=body)


def test_requests_that_outlast_the_stop_are_answered_503(spawn, repository):
    with spawn(repository, drain_seconds=1, max_samples=10**8, memory_budget="1MiB") as server:
        url = f"http://127.0.0.1:{server.port}/v1/models/shapes/predict"
        body = {"inputs": [[0.1, 0.2, 0.3, 0.4]], "samples": 10**8}
        answers = queue.Queue()
        asking = threading.Thread(
            target=lambda: answers.put(httpx.post(url, json=body, timeout=60))
        )
        partial = "POST /v2/models/shapes/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(partial.encode())
            asking.start()
            time.sleep(0.5)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert connection.recv(4096).startswith(b"HTTP/1.1 503")
        asking.join(30)
        log = server.read_rest()
    assert time.monotonic() - began < 20
    assert answers.get_nowait().status_code == 503
    assert server.process.returncode == 0, log
    assert "Traceback" not in log


def test_the_port_is_free_again_after_a_stop(spawn, repository):
    with spawn(repository) as first:
        assert httpx.get(f"http://127.0.0.1:{first.port}/health/live").status_code == 200
        first.process.terminate()
        first.read_rest()
    with spawn(repository, port=first.port) as second:
        assert second.port == first.port


@pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc")
def test_threads_sleep_while_they_wait_unless_told_otherwise(
    spawn, served, repository, monkeypatch
):
    def policy(server):
        environment = Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
        return [entry for entry in environment if entry.startswith(b"OMP_WAIT_POLICY=")]

    assert policy(served) == [b"OMP_WAIT_POLICY=passive"]
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    with spawn(repository) as server:
        assert policy(server) == [b"OMP_WAIT_POLICY=active"]


def test_a_taken_port_is_one_line(served, repository):
    done = fail(MODELS=repository, PORT=served.port)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"mcdrop: cannot listen on 127.0.0.1:{served.port}: ")
    assert "stop the other program, or set MCDROP_PORT" in done.stderr
    assert done.stderr.count(str(served.port)) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MODELS": "/nowhere"}, "the models folder /nowhere does not exist"),
        ({"PORT": "http"}, "MCDROP_PORT"),
        ({"DEVICE": "cuda:77"}, "cuda:77"),
        ({"HOST": "no.such.host.invalid"}, "no.such.host.invalid:0: there is no such host; set"),
        ({"HOST": "a..b"}, "there is no such host"),
        ({"HOST": "192.0.2.1"}, "set MCDROP_HOST to an address of this machine"),
        ({"API_KEYS": "/nowhere/keys.toml"}, "keys file '/nowhere/keys.toml': No such file"),
        ({"CONFIG": "/nowhere/server.toml"}, "settings file '/nowhere/server.toml': No such file"),
    ],
)
def test_a_bad_start_is_one_line(repository, settings, said):
    done = fail(**({"MODELS": repository, "PORT": 0} | settings))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("mcdrop: ")
    assert said in done.stderr
    assert "other program" not in done.stderr


def test_an_empty_models_folder_is_one_line(tmp_path):
    done = fail(MODELS=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "holds no <name>/<version>/ folder" in done.stderr


def test_help_names_the_settings():
    done = subprocess.run(
        [sys.executable, "-m", "service", "--help"], capture_output=True, text=True, check=True
    )
    assert "MCDROP_MODELS" in done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(served):
    url = f"http://127.0.0.1:{served.port}/v1/models/meter/predict"
    done = subprocess.run(
        ["curl", "-sS", url, "-d", json.dumps(BODY)], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    assert answer["model"] == "meter"
    assert len(answer["outputs"]["mean"]) == 1


def test_what_is_passed_over_is_logged_once(spawn, repository, tmp_path):
    shutil.copytree(repository / "meter", tmp_path / "meter")
    (tmp_path / "no_versions").mkdir()
    with spawn(tmp_path) as server:
        server.process.terminate()
        log = server.read_rest()
    assert log.count("no_versions is passed over") == 1


def test_an_address_that_others_reach_is_warned_of_where_there_are_no_keys(repository, tmp_path):
    (tmp_path / "keys.toml").write_text("")
    (tmp_path / "keys.toml").chmod(0o600)
    for host, keys, warned in (("0.0.0.0", "", 1), ("0.0.0.0", tmp_path / "keys.toml", 0)):
        settings = {"HOST": host, "API_KEYS": keys, "MODELS": repository, "PORT": 0}
        environment = os.environ | {f"MCDROP_{key}": str(value) for key, value in settings.items()}
        with subprocess.Popen(
            [sys.executable, "-m", "service"], env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if "Application startup complete" in line:
                    process.terminate()
            assert "".join(lines).count("whoever reaches 0.0.0.0 may predict") == warned


def test_a_loopback_address_is_not_warned_of(served):
    assert "may predict" not in "".join(served.lines)


@pytest.mark.parametrize(
    ("proxies", "expected"), [("127.0.0.1", [200, 200, 429]), ("", [200, 429, 429])]
)
def test_only_a_trusted_proxy_says_where_a_request_came_from(
    spawn, repository, tmp_path, proxies, expected
):
    shutil.copytree(repository / "meter", tmp_path / "meter")
    with spawn(tmp_path, rate_limit=0.01, rate_burst=1, trusted_proxies=proxies) as server:
        url = f"http://127.0.0.1:{server.port}/v1/models/meter/predict"
        statuses = [
            httpx.post(url, json=BODY, headers={"x-forwarded-for": address}).status_code
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")
        ]
    assert statuses == expected


def test_print_config_of_the_module(tmp_path):
    path = tmp_path / "server.toml"
    path.write_text("queue_size = 5")
    done = subprocess.run(
        [sys.executable, "-m", "service", "--config", str(path), "--print-config"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "# MCDROP_QUEUE_SIZE; file\nqueue_size = 5\n" in done.stdout
    assert not done.stderr
