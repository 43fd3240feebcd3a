import pytest
from joblease.settings import (
    AZURITE_CONNECTION_STRING,
    BrokerSettings,
    ProgramSettings,
    StorageSettings,
    describe,
    load,
)
from joblease_operator.settings import OperatorSettings
from joblease_worker.settings import WorkerSettings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("JOBLEASE_")]:
        monkeypatch.delenv(name)


def test_a_developers_machine_needs_no_setting() -> None:
    settings = load(WorkerSettings)
    assert settings.amqp_url.get_secret_value() == "amqp://guest:guest@127.0.0.1:5672/"
    assert settings.connection_string() == AZURITE_CONNECTION_STRING
    assert (settings.lease_seconds, settings.renew_seconds, settings.defer_seconds) == (60, 20, 10)
    assert settings.tls() is None


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("JOBLEASE_AMQP_URL", "http://broker", "expected amqp://"),
        ("JOBLEASE_AMQP_CERT_FILE", "/nowhere", "not point to a file"),
        ("JOBLEASE_STORAGE_ACCOUNT_URL", "http://account.blob.core.windows.net", "expected https://"),
        ("JOBLEASE_STORAGE_CONNECTION_STRING", "nonsense", "expected Name=value"),
        ("JOBLEASE_LEASE_SECONDS", "14", "greater than or equal to 15"),
        ("JOBLEASE_LEASE_SECONDS", "61", "less than or equal to 60"),
        ("JOBLEASE_LEASE_SAFETY_SECONDS", "30", "at most a third"),
        ("JOBLEASE_WORKER_QUEUE", "Upper Case", "match pattern"),
        ("JOBLEASE_WORKER_NAME", "wörker", "match pattern"),
        ("JOBLEASE_WORKER_NAME", " 1", "match pattern"),
        ("JOBLEASE_WORKER_CONCURRENCY", "many", "valid integer"),
        ("JOBLEASE_METRICS_PORT", "70000", "less than or equal to 65535"),
        ("JOBLEASE_LOG_LEVEL", "LOUD", "'DEBUG'"),
    ],
)
def test_a_wrong_setting_stops_the_program_and_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        load(WorkerSettings)
    assert ended.value.code == 2
    assert f"wrong setting {variable}: " in (text := capsys.readouterr().err)
    assert message in text
    assert value not in text or variable == "JOBLEASE_LOG_LEVEL"  # it may be a secret


@pytest.mark.parametrize(
    ("lease", "deadline", "renew", "wrong"),
    [
        ("10", "9.5", "2", "RENEW_DEADLINE_SECONDS"),
        ("6", "6", "2", "RENEW_DEADLINE_SECONDS"),
        ("10", "6", "3.5", "RENEW_SECONDS"),
        ("61", "6", "2", "LEASE_SECONDS"),
    ],
)
def test_a_leader_ends_before_its_lease_and_has_two_tries(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lease: str,
    deadline: str,
    renew: str,
    wrong: str,
) -> None:
    monkeypatch.setenv("JOBLEASE_OPERATOR_LEASE_SECONDS", lease)
    monkeypatch.setenv("JOBLEASE_OPERATOR_RENEW_DEADLINE_SECONDS", deadline)
    monkeypatch.setenv("JOBLEASE_OPERATOR_RENEW_SECONDS", renew)
    with pytest.raises(SystemExit):
        load(OperatorSettings)
    assert f"wrong setting JOBLEASE_OPERATOR_{wrong}: " in capsys.readouterr().err


def test_account_url_and_connection_string_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBLEASE_STORAGE_ACCOUNT_URL", "https://account.blob.core.windows.net")
    monkeypatch.setenv("JOBLEASE_STORAGE_CONNECTION_STRING", "AccountName=a")
    with pytest.raises(SystemExit):
        load(StorageSettings)
    assert "JOBLEASE_STORAGE_ACCOUNT_URL" in capsys.readouterr().err


def test_the_table_url_follows_from_the_blob_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBLEASE_STORAGE_ACCOUNT_URL", "https://jobs.blob.core.windows.net")
    assert load(StorageSettings).account_urls() == (
        "https://jobs.blob.core.windows.net",
        "https://jobs.table.core.windows.net",
    )


def test_tls_uses_the_systems_authorities_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBLEASE_AMQP_URL", "amqps://user:secret@broker/")
    context = load(BrokerSettings).tls()
    assert context is not None
    assert context.check_hostname


def test_secrets_do_not_show() -> None:
    assert "guest" not in repr(load(WorkerSettings))


def test_help_lists_every_setting_with_its_meaning() -> None:
    text = describe(WorkerSettings)
    for name, field in WorkerSettings.model_fields.items():
        assert f"  JOBLEASE_{name.upper()}  (default: " in text
        assert field.description, name
    assert issubclass(WorkerSettings, ProgramSettings)
