import hashlib
import re

import pytest

from service.access.keys import (
    MOST_KEYS,
    Key,
    KeyScope,
    digest_of,
    find_key,
    key_entry,
    new_key,
    read_keys,
)
from service.access.limits import Rate
from service.errors import SettingsError

DIGEST = "ab" * 32


def entry(name="a", scope="read", digest=DIGEST, rest=""):
    return f'[keys.{name}]\nscope = "{scope}"\nsha256 = "{digest}"\n{rest}\n'


def read(folder, text):
    path = folder / "keys.toml"
    path.write_text(text)
    return read_keys(path)


def test_keys_are_random_and_marked():
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    for key in made:
        assert re.fullmatch(r"mcdrop_[A-Za-z0-9_-]{43}", key)  # 43 · 6 bits hold 256


def test_an_entry_is_read_back_and_does_not_hold_the_key(tmp_path):
    key = new_key()
    text = key_entry("alice", key, KeyScope.ADMIN, 5.0, 20) + key_entry(
        "bob", new_key(), KeyScope.READ, None, None
    )
    assert key not in text
    assert hashlib.sha256(key.encode()).hexdigest() in text
    alice, bob = read(tmp_path, text)
    assert (alice.name, alice.scope, alice.rate) == ("alice", KeyScope.ADMIN, Rate(5.0, 20))
    assert (bob.name, bob.scope, bob.rate) == ("bob", KeyScope.READ, None)
    assert find_key([alice, bob], key) is alice
    assert repr(digest_of(key)) not in repr(alice)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a\n", "ä", "x" * 65, "[a]"])
def test_an_impossible_name_is_refused(name):
    with pytest.raises(SettingsError, match="1 to 64 letters, digits"):
        key_entry(name, new_key(), KeyScope.READ, None, None)


@pytest.mark.parametrize(("rate", "burst"), [(0, None), (-1.0, 1), (float("nan"), 1), (None, 3)])
def test_an_impossible_rate_is_refused(rate, burst):
    with pytest.raises(SettingsError, match=r"no such key: keys.a"):
        key_entry("a", new_key(), KeyScope.READ, rate, burst)


def test_admin_may_what_read_may_but_not_the_other_way():
    admin, read = Key("a", KeyScope.ADMIN, b""), Key("r", KeyScope.READ, b"")
    assert admin.may(KeyScope.READ)
    assert admin.may(KeyScope.ADMIN)
    assert read.may(KeyScope.READ)
    assert not read.may(KeyScope.ADMIN)


def test_only_the_very_key_is_found():
    made = new_key()
    keys = [Key("a", KeyScope.READ, digest_of(made))]
    for wrong in (
        made[:-1],
        made + " ",
        made.upper(),
        "",
        made[1:],
        digest_of(made).hex(),
        "é\udcff",
    ):
        assert find_key(keys, wrong) is None
    assert find_key(keys, made) is keys[0]
    assert find_key([], made) is None


@pytest.mark.parametrize("place", [None, 0, 2, 4])
def test_all_keys_are_looked_at_wherever_the_right_one_is(place):
    presented, seen = new_key(), []

    def keys():
        for number in range(5):
            digest = digest_of(presented if number == place else new_key())
            seen.append(number)
            yield Key(str(number), KeyScope.READ, digest)

    found = find_key(keys(), presented)
    assert seen == [0, 1, 2, 3, 4]
    assert (found and found.name) == (None if place is None else str(place))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys = 3", "keys: "),
        ("[keys]\na = 3", "keys.a: "),
        ("[alice]\nscope = 'read'", "alice: there is no such entry"),
        (entry(rest="sope = 'hunter2'"), "keys.a.sope: there is no such entry"),
        (entry(scope="hunter2"), "keys.a.scope: .*'read' or 'admin'"),
        (entry(digest="mcdrop_hunter2"), "keys.a.sha256: expected the 64 hexadecimal digits"),
        (entry(digest=DIGEST.upper()), "keys.a.sha256: expected the 64 hexadecimal digits"),
        (entry(digest=DIGEST + "\\n"), "keys.a.sha256: expected the 64 hexadecimal digits"),
        (f"[keys.a]\nsha256 = '{DIGEST}'", "keys.a.scope: Field required"),
        (entry(rest="rate_limit = 0"), "keys.a.rate_limit: .*greater than 0"),
        (entry(rest="rate_limit = nan"), "keys.a.rate_limit: .*greater than 0"),
        (entry(rest="rate_burst = 5"), "keys.a: rate_burst needs a rate_limit"),
        (entry() + entry("b"), "a and b are the same key"),
        (entry() + entry(), "not TOML: Cannot declare"),
        (entry('"a b"'), "keys.a b.*: String should match"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_that_repeats_no_value(tmp_path, text, said):
    with pytest.raises(SettingsError, match=said) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"keys file '{tmp_path / 'keys.toml'}': ")
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_may_hold_no_key_but_not_too_many(tmp_path):
    assert read(tmp_path, "") == ()
    many = [entry(f"k{number}", digest=f"{number:064x}") for number in range(MOST_KEYS + 1)]
    assert len(read(tmp_path, "".join(many[:-1]))) == MOST_KEYS
    with pytest.raises(SettingsError, match=f"at most {MOST_KEYS}"):
        read(tmp_path, "".join(many))


def test_there_may_be_a_key_without_a_limit(tmp_path):
    (key,) = read(tmp_path, entry(rest="rate_limit = inf"))
    assert key.rate.per_second == float("inf")
