import re
import stat
import subprocess
import sys

import pytest

from service.access.keys import KeyScope, find_key, read_keys
from service.access.limits import Rate

MAIN = "from mcdrop.cli import main; main()"


def test_with_a_file_stdout_is_the_key_and_the_file_has_its_entry(mcdrop, tmp_path):
    path = tmp_path / "keys.toml"
    made = mcdrop("key", "alice", "--file", path)
    assert made.exit_code == 0, made.stderr
    assert re.fullmatch(r"mcdrop_[A-Za-z0-9_-]{43}\n", made.stdout)
    assert made.stdout.strip() not in path.read_text() + made.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    more = mcdrop(
        "key", "ci", "--scope", "admin", "--rate-limit", 5, "--rate-burst", 20, "--file", path
    )
    alice, ci = read_keys(path)
    assert (alice.name, alice.scope, alice.rate) == ("alice", KeyScope.READ, None)
    assert (ci.name, ci.scope, ci.rate) == ("ci", KeyScope.ADMIN, Rate(5.0, 20))
    assert find_key([alice, ci], made.stdout.strip()) is alice
    assert find_key([alice, ci], more.stdout.strip()) is ci


def test_without_a_file_the_entry_is_shown_beside_the_key(mcdrop, tmp_path):
    made = mcdrop("key", "alice")
    path = tmp_path / "keys.toml"
    path.write_text(made.stderr[made.stderr.index("[keys.alice]") :])
    assert find_key(read_keys(path), made.stdout.strip()).name == "alice"


def test_what_is_in_the_file_stays_whatever_its_end(mcdrop, tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text("# ours")
    path.chmod(0o640)
    for name in ("a", "b"):
        assert mcdrop("key", name, "--file", path).exit_code == 0
    assert path.read_text().startswith("# ours\n\n[keys.a]\n")
    assert [key.name for key in read_keys(path)] == ["a", "b"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["a.b"], "1 to 64 letters, digits, - and _"),
        (["a", "--rate-limit", "0"], "keys.a.rate_limit"),
        (["a", "--rate-burst", "3"], "rate_burst needs a rate_limit"),
        (["taken"], "has a key 'taken': choose another name, or remove its entry"),
    ],
)
def test_a_refusal_is_one_line_and_no_key(mcdrop, tmp_path, args, said):
    path = tmp_path / "keys.toml"
    mcdrop("key", "taken", "--file", path)
    before = path.read_text()
    result = mcdrop("key", *args, "--file", path)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert said in line
    assert path.read_text() == before


@pytest.mark.parametrize("name", ["broken.toml", "nowhere/keys.toml", "."])
def test_a_file_that_cannot_be_added_to_is_one_line(mcdrop, tmp_path, name):
    (tmp_path / "broken.toml").write_text("[keys")
    result = mcdrop("key", "alice", "--file", tmp_path / name)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert str(tmp_path / name) in line


def test_an_unknown_scope_is_a_usage_error(mcdrop):
    assert mcdrop("key", "alice", "--scope", "write").exit_code == 2


def test_without_the_extra_it_says_what_to_install():
    code = f"import sys; sys.modules['fastapi'] = None; {MAIN}"
    run = subprocess.run(
        [sys.executable, "-c", code, "key", "alice"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert "pip install 'mcdrop[service]'" in line
