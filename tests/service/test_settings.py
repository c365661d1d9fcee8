import pickle
import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from pydantic import ByteSize, SecretStr

from mcdrop.errors import McdropError
from service import Settings
from service.access.keys import new_key
from service.access.limits import Rate
from service.errors import SettingsError
from service.settings import variables


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


def test_the_rate_of_a_caller():
    assert Settings(rate_burst=3).rate is None
    assert Settings(rate_limit=2.5).rate == Rate(2.5, 3)
    assert Settings(rate_limit=0.5, rate_burst=3).rate == Rate(0.5, 3)


@pytest.mark.parametrize("value", ["gpu", "cuda:", "cuda:1234", "cpu\n"])
def test_a_bad_device_is_told_what_there_is(value):
    with pytest.raises(
        SettingsError, match=r"MCDROP_DEVICE.*: expected auto, cpu, cuda or cuda:N, or several"
    ):
        Settings(device=value)


@pytest.mark.parametrize("value", ["auto", "cpu", "cuda", "cuda:0", "cuda:15"])
def test_devices(value):
    assert Settings(device=value).device == value


def write(folder, text):
    path = folder / "server.toml"
    path.write_text(text)
    return path


def values(settings):
    return settings.model_dump(exclude={"config"})


def test_options_win_over_the_environment_and_it_over_the_file(tmp_path, monkeypatch):
    path = write(tmp_path, "port = 1\nmax_rows = 1\nmax_samples = 1\n")
    monkeypatch.setenv("MCDROP_PORT", "2")
    monkeypatch.setenv("MCDROP_MAX_ROWS", "2")
    monkeypatch.setenv("MCDROP_MAX_SAMPLES", "")
    settings = Settings(config=path, port=3)
    assert (settings.port, settings.max_rows, settings.max_samples) == (3, 2, 1)
    assert settings.queue_size == Settings().queue_size
    origins = [settings.origin(n) for n in ("port", "max_rows", "max_samples", "queue_size")]
    assert origins == ["option", "environment", "file", "default"]


def test_the_environment_names_the_file_unless_an_option_does(tmp_path, monkeypatch):
    monkeypatch.setenv("MCDROP_CONFIG", str(write(tmp_path, "port = 1")))
    assert Settings().port == 1
    other = tmp_path / "other.toml"
    other.write_text("port = 2")
    assert Settings(config=other).port == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 'hunter2'", r"there is no setting 'prot'; did you mean port\?"),
        ("MCDROP_PORT = 'hunter2'", r"no setting 'MCDROP_PORT'; did you mean port\?"),
        ("[server]\nport = 'hunter2'", "no setting 'server'; there are: host, port"),
        ("config = 'hunter2'", "no setting 'config'"),
        ("port = 'http'", "port: .*integer.*; got 'http'"),
        ("port = true", "port: expected a value other than true or false"),
        ("host = 1", "host: .*string"),
        ("models = []", "models: .*path"),
        ("threads = 1.5", "threads: .*integer"),
        ("max_body_bytes = 'lots'", "max_body_bytes: .*; got 'lots'"),
        ("metrics_key_required = 'perhaps'", "metrics_key_required: .*boolean"),
        ("rate_limit = inf", "rate_limit: .*finite"),
        ("trusted_proxies = 'nginx'", "trusted_proxies: expected addresses or networks"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_with_file_and_key(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(SettingsError, match=said) as caught:
        Settings(config=path)
    assert str(caught.value).startswith(f"settings file '{path}': ")
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_bad_variable_is_named_though_there_is_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MCDROP_PORT", "http")
    with pytest.raises(SettingsError, match="MCDROP_PORT") as caught:
        Settings(config=write(tmp_path, "port = 1"))
    assert "server.toml" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.toml", "."])
def test_a_file_that_cannot_be_read(tmp_path, name):
    with pytest.raises(SettingsError, match=r"settings file .*: (No such file|Is a directory)"):
        Settings(config=tmp_path / name)


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "host": WORDS,
        "port": st.integers(0, 65535),
        "models": WORDS.map(Path),
        "device": st.sampled_from(["auto", "cpu", "cuda:3"]),
        "threads": st.none() | st.integers(1, 4096),
        "max_body_bytes": st.integers(1, 1 << 70),
        "memory_budget": st.integers(1, 1 << 40).map(lambda count: ByteSize(count << 20)),
        "api_keys": st.none() | WORDS.map(Path),
        "metrics_key_required": st.booleans(),
        "rate_limit": st.none() | st.floats(1e-300, 1e300),
        "trusted_proxies": st.sampled_from([None, "*", "127.0.0.1, 10.0.0.0/8", "::1"]),
        "log_level": st.sampled_from(["debug", "ERROR"]),
    },
)


@given(options=OPTIONS)
@profile(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_printed_is_read_back_as_the_same_settings(tmp_path, options):
    settings = Settings(**options)
    path = tmp_path / "server.toml"
    path.write_text(settings.to_toml(), encoding="utf-8", newline="")
    assert values(Settings(config=path)) == values(settings)


class WithSecret(Settings):
    token: SecretStr | None = None
    pin: SecretStr = SecretStr("0")


def test_secrets_are_never_said(tmp_path, monkeypatch):
    monkeypatch.setenv("MCDROP_TOKEN", "hunter2")
    settings = WithSecret(pin="hunter2")
    assert settings.token.get_secret_value() == "hunter2"
    assert "hunter2" not in settings.to_toml() + repr(settings)
    for options in ({"pin": ["hunter2"]}, {"config": write(tmp_path, "pin = ['hunter2']")}):
        with pytest.raises(SettingsError, match="pin") as caught:
            WithSecret(**options)
        assert "hunter2" not in str(caught.value)


def test_a_key_in_the_place_of_its_file_is_not_repeated(monkeypatch):
    key = new_key()
    monkeypatch.setenv("MCDROP_API_KEYS", key)
    with pytest.raises(SettingsError, match="expected the path of a file of keys") as caught:
        Settings()
    assert key not in str(caught.value)


def test_every_setting_says_what_it_is_for_and_is_in_the_readme():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    table = readme.partition("\n## Settings of the server\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(MCDROP_[A-Z_]+)`", table))
    assert named == set(variables())
    assert all(field.description for field in Settings.model_fields.values())


def test_only_what_may_be_left_out_has_no_value():
    """TOML has no null, so a file could not say that there is no value."""
    for name, field in Settings.model_fields.items():
        if type(None) in get_args(field.annotation):
            assert field.default is None, name


def test_settings_travel_to_other_processes():
    settings = Settings(port=1)
    found = pickle.loads(pickle.dumps(settings))
    assert values(found) == values(settings)
    assert found.origin("port") == "option"
