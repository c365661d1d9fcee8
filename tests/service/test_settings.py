from pathlib import Path

import pytest

from mcdrop.errors import McdropError
from service import Settings
from service.errors import SettingsError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MCDROP_{name.upper()}", raising=False)


def test_defaults_are_local_and_bounded():
    settings = Settings()
    assert (settings.host, settings.port, settings.device) == ("127.0.0.1", 8000, "auto")
    assert settings.models == Path("models")
    assert settings.threads is None
    assert min(settings.max_rows, settings.max_samples, settings.max_body_bytes) > 0


def test_environment_is_read_and_arguments_win(monkeypatch):
    monkeypatch.setenv("MCDROP_PORT", "9000")
    monkeypatch.setenv("MCDROP_LOG_LEVEL", "WARNING")
    monkeypatch.setenv("MCDROP_MAX_BODY_BYTES", "2MiB")
    monkeypatch.setenv("MCDROP_THREADS", "")
    settings = Settings(port=9001)
    assert settings.port == 9001
    assert settings.log_level == "warning"
    assert settings.max_body_bytes == 2 << 20
    assert settings.threads is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "99999"),
        ("PORT", "tcp://10.0.0.1:8000"),
        ("DEVICE", "tpu"),
        ("THREADS", "0"),
        ("MAX_BODY_BYTES", "lots"),
        ("LOG_LEVEL", "chatty"),
        ("QUEUE_SIZE", "-1"),
        ("VERSIONS", "latest:0"),
        ("VERSIONS", "newest"),
        ("WATCH_SECONDS", "-1"),
        ("WARMUP_ROWS", "many"),
    ],
)
def test_a_bad_value_is_named_in_one_line(monkeypatch, name, value):
    monkeypatch.setenv(f"MCDROP_{name}", value)
    with pytest.raises(SettingsError) as caught:
        Settings()
    said = str(caught.value)
    assert f"MCDROP_{name}" in said
    assert value in said
    assert "\n" not in said
    assert isinstance(caught.value, McdropError)


def test_an_unknown_argument_is_refused():
    with pytest.raises(SettingsError, match="prot"):
        Settings(prot=8000)


@pytest.mark.parametrize(("policy", "most"), [("all", None), ("latest:1", 1), ("latest:12", 12)])
def test_how_many_versions_are_loaded(policy, most):
    assert Settings(versions=policy).most_versions == most


@pytest.mark.parametrize("value", ["gpu", "cuda:", "cuda:1234", "cpu\n"])
def test_a_bad_device_is_told_what_there_is(value):
    with pytest.raises(
        SettingsError, match=r"MCDROP_DEVICE.*: expected auto, cpu, cuda or cuda:N; got"
    ):
        Settings(device=value)


@pytest.mark.parametrize("value", ["auto", "cpu", "cuda", "cuda:0", "cuda:15"])
def test_devices(value):
    assert Settings(device=value).device == value
