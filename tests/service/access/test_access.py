"""The core, as every protocol uses it."""

import pytest

from service.access.access import ANYONE, Access
from service.access.keys import KeyScope, key_entry, new_key
from service.access.limits import Rate
from service.errors import ForbiddenError, RateLimitedError, UnauthorizedError

READ, ADMIN = new_key(), new_key()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(
        key_entry("reader", READ, KeyScope.READ, 0.01, 2)
        + key_entry("boss", ADMIN, KeyScope.ADMIN, None, None)
    )
    path.chmod(0o600)
    return path


@pytest.fixture
def access(path):
    access = Access(path, rate=Rate(0.01, 1))
    access.file.load()
    return access


def test_a_known_key_is_let_in(access):
    assert access.check(READ, KeyScope.READ).name == "reader"
    assert access.check(ADMIN, KeyScope.READ).name == "boss"
    assert access.check(ADMIN, KeyScope.ADMIN).name == "boss"


@pytest.mark.parametrize("scope", KeyScope)
@pytest.mark.parametrize(
    "presented",
    [None, "", "nonsense", READ + "x", new_key()],
    ids=["none", "empty", "nonsense", "longer", "new"],  # keys differ in each process
)
def test_an_unknown_key_or_none_is_not(access, presented, scope):
    with pytest.raises(UnauthorizedError) as caught:
        access.check(presented, scope)
    assert caught.value.headers["www-authenticate"] == "Bearer"
    assert not presented or presented not in str(caught.value)


def test_reading_is_not_managing(access):
    with pytest.raises(ForbiddenError, match=r"a key of scope admin; .* 'reader' is read"):
        access.check(READ, KeyScope.ADMIN)


def test_without_a_file_everybody_may_predict_and_nobody_may_manage():
    access = Access()
    for presented in (None, READ, "nonsense"):
        assert access.check(presented, KeyScope.READ) is ANYONE
        with pytest.raises(ForbiddenError, match=r"management is off.*MCDROP_API_KEYS.*mcdrop key"):
            access.check(presented, KeyScope.ADMIN)


def test_before_its_file_is_read_nobody_is_let_in(path):
    with pytest.raises(UnauthorizedError):
        Access(path).check(ADMIN, KeyScope.READ)


def test_each_key_has_its_rate_wherever_it_comes_from(access):
    reader, boss = access.check(READ, KeyScope.READ), access.check(ADMIN, KeyScope.READ)
    access.spend(reader, "192.0.2.1")
    access.spend(reader, "192.0.2.2")
    with pytest.raises(
        RateLimitedError, match=r"key 'reader' .*0\.01 times .*, 2 at once"
    ) as caught:
        access.spend(reader, "192.0.2.3")
    assert 1 <= caught.value.retry_after <= 100
    assert caught.value.headers == {"retry-after": str(caught.value.retry_after)}
    access.spend(boss, "192.0.2.1")
    with pytest.raises(RateLimitedError, match="key 'boss'"):
        access.spend(boss, "192.0.2.1")


def test_without_keys_each_address_has_its_rate():
    access = Access(rate=Rate(0.01, 1))
    access.spend(ANYONE, "192.0.2.1")
    access.spend(ANYONE, "2001:db8::1")
    for address in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::2"):
        with pytest.raises(RateLimitedError, match="an address may predict"):
            access.spend(ANYONE, address)


def test_a_key_called_anyone_is_not_everybody(tmp_path):
    path, key = tmp_path / "keys.toml", new_key()
    path.write_text(key_entry("anyone", key, KeyScope.READ, None, None))
    access = Access(path, rate=Rate(0.01, 1))
    access.file.load()
    found = access.check(key, KeyScope.READ)
    access.spend(found, "192.0.2.1")
    with pytest.raises(RateLimitedError, match="key 'anyone'"):
        access.spend(found, "192.0.2.2")


def test_without_a_rate_nothing_is_counted():
    access = Access()
    for _ in range(10_000):
        access.spend(ANYONE, "192.0.2.1")
    assert len(access._limits) == 0
