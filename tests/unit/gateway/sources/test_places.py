"""What a tenant's sources may read, and when they run."""

from pathlib import Path

import pytest

from gannet_gateway.ledger.sources import Source
from gannet_gateway.names import SourceName
from gannet_gateway.sources.places import Places
from gannet_gateway.sources.schedule import check_cron, check_interval, next_run_at_s
from gannet_service.errors import InvalidInput, PermissionDenied

NAME = SourceName("acme", "docs", "s")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """One root for everybody and one a tenant; two addresses."""
    for folder in ("shared/a", "own/acme/docs", "own/other", "shared-secret"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "shared/link").symlink_to(tmp_path / "own/other")
    roots = [f"{tmp_path}/shared", f"{tmp_path}/own/{{tenant}}"]
    return Places(roots, ["https://docs.example.com/pub", "http://{tenant}.example.com:8080"])


@pytest.mark.parametrize(
    "directory", ["shared", "shared/a", "own/acme", "own/acme/docs", "shared/../own/acme", "shared/later"]
)
def test_check_directory_below_a_root_is_taken(places: Places, tmp_path: Path, directory: str):
    """The root itself too, and what is not there yet."""
    assert places.check_directory(f"{tmp_path}/{directory}", "acme") == (tmp_path / directory).resolve()


@pytest.mark.parametrize(
    "directory", ["own/other", "own", "shared-secret", "shared/link", "shared/../..", "", "shared/../own/other"]
)
def test_check_directory_outside_is_refused(places: Places, tmp_path: Path, directory: str):
    """Another tenant's, a neighbour that begins alike, whatever a link or dots lead to."""
    with pytest.raises(PermissionDenied) as caught:
        places.check_directory(f"{tmp_path}/{directory}", "acme")
    assert (caught.value.reason, caught.value.field) == ("SOURCE_NOT_ALLOWED", "source.directory")


@pytest.mark.parametrize("directory", ["", "relative/path", "/a\x00b", "/" + "x" * 4096])
def test_check_directory_that_is_no_path_is_bad_input(places: Places, directory: str):
    """Before anything is looked up."""
    with pytest.raises(InvalidInput):
        places.check_directory(directory, "acme")


def test_check_without_any_place_opened_is_refused():
    """What nobody has configured is closed."""
    with pytest.raises(PermissionDenied):
        Places([], []).check_directory("/srv", "acme")
    with pytest.raises(PermissionDenied):
        Places([], []).check_url("https://docs.example.com/", "acme")


@pytest.mark.parametrize(
    "url",
    [
        "https://docs.example.com/pub",
        "https://docs.example.com:443/pub/a?b=c",
        "http://acme.example.com:8080/x",
        "HTTPS://docs.example.com/pub/",
    ],
)
def test_check_url_below_a_prefix_is_taken(places: Places, url: str):
    """Whole parts of the path; the default port is a port."""
    assert places.check_url(url, "acme") == url


@pytest.mark.parametrize(
    "url",
    [
        "https://docs.example.com/public",
        "http://docs.example.com/pub",
        "https://docs.example.com:444/pub",
        "https://docs.example.com.evil.org/pub",
        "http://other.example.com:8080/x",
    ],
)
def test_check_url_of_another_place_is_refused(places: Places, url: str):
    """Scheme, host, port and path all count."""
    with pytest.raises(PermissionDenied):
        places.check_url(url, "acme")


@pytest.mark.parametrize(
    "url",
    [
        "https://docs.example.com@evil.org/pub",
        "https://docs.example.com/pub/../secret",
        "https://docs.example.com/pub/%2E%2e/secret",
        "https://docs.example.com/pub/..%2Fsecret",
        "https://docs.example.com\\@evil.org/pub",
        "https://docs.example.com:x/pub",
        "ftp://docs.example.com/pub",
        "file:///etc/passwd",
        "https://docs.example.com/pub#a",
        "",
    ],
)
def test_check_url_that_may_mean_two_things_is_bad_input(places: Places, url: str):
    """What another client could read as another place."""
    with pytest.raises(InvalidInput):
        places.check_url(url, "acme")


def test_next_run_of_a_cron_expression_is_its_next_time_in_utc():
    """Strictly after now; 1 January 2026 was a Thursday."""
    new_year_s = 1_767_225_600.0
    source = Source(name=NAME, cron="30 4 * * 1-5")
    assert next_run_at_s(source, new_year_s) == new_year_s + 4.5 * 3600
    assert next_run_at_s(source, new_year_s + 4.5 * 3600) == new_year_s + 28.5 * 3600


def test_next_run_of_an_interval_is_counted_from_the_end_of_a_run():
    """And without a schedule there is none."""
    assert next_run_at_s(Source(name=NAME, interval_s=60), 1000.0) == 1060.0
    assert next_run_at_s(Source(name=NAME), 1000.0) is None


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "* * * * * *", "61 * * * *", "x", "0 0 31 2 *", "@daily", "* " * 200]
)
def test_check_cron_of_nonsense_is_refused(expression: str):
    """Also what never comes."""
    with pytest.raises(InvalidInput, match="cron expression of five fields"):
        check_cron(expression, 1000.0)


@pytest.mark.parametrize("seconds", [-1, 0, 59, 366 * 86_400 + 1])
def test_check_interval_outside_its_limits_is_refused(seconds: int):
    """The limits are named."""
    with pytest.raises(InvalidInput, match="the limits are 60 to 31622400 seconds"):
        check_interval(seconds)
