"""`donewhen run`: what is agreed, what is told, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import AUDIT_TOOLS, as_json, donewhen, run_for_json, run_offline, write_spec

from donewhen.demo.site import DemoSite
from donewhen.ledger import Ledger
from donewhen.testing import FakeProvider, Fault

NEVER = '[[done_when]]\ncheck = "regex"\npattern = "never this"\n'
FEW_TURNS = "[ceilings]\nturns = 2\ntokens = 20000\n"


def test_a_run_that_is_done_ends_with_0_and_is_in_the_ledger(spec_file: Path) -> None:
    result = run_offline(spec_file)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("done: the model finished its turn\nsession ")
    [found] = as_json("sessions")
    assert (found["state"], found["what_it_does"]) == ("done", "Says hello.")


def test_talk_goes_to_stderr(spec_file: Path) -> None:
    result = run_offline(spec_file)
    assert "offline-rules end_turn" in result.stderr
    assert "donewhen review" in result.stderr


def test_the_output_is_not_handed_on(spec_file: Path) -> None:
    result = run_offline(spec_file)
    assert "rule-based" not in result.stdout + result.stderr


def test_a_quiet_run_that_is_done_says_nothing(spec_file: Path) -> None:
    result = run_offline(spec_file, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_a_quiet_run_tells_a_problem_on_stderr_alone(tmp_path: Path) -> None:
    result = run_offline(write_spec(tmp_path / "s.toml", "[ceilings]\nturns = 0\n"), "--quiet")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "CIRCUIT BREAKER CHECKPOINT" in result.stderr
    assert "breached: turn_ceiling" in result.stderr


def test_json_is_one_object_and_nothing_else(spec_file: Path) -> None:
    result = run_offline(spec_file, "--json")
    [line] = result.stdout.splitlines()
    told = json.loads(line)
    assert (told["outcome"], told["success"], told["turns"], told["exit_code"]) == ("done", True, 1, 0)


def test_a_ceiling_ends_with_4_and_names_the_next_command(tmp_path: Path) -> None:
    result = run_offline(write_spec(tmp_path / "s.toml", "[ceilings]\ntokens = 5\n"))
    assert result.exit_code == 4
    assert result.stdout.startswith("breached: token_ceiling")
    assert "--tokens N --why TEXT" in result.stderr


def test_unmet_checks_end_with_6(tmp_path: Path) -> None:
    result = run_offline(write_spec(tmp_path / "s.toml", FEW_TURNS + NEVER))
    assert result.exit_code == 6
    assert result.stdout.startswith("unmet: ")


def test_a_held_call_ends_with_3_and_goes_on_when_it_is_attested(tmp_path: Path) -> None:
    more = 'keep = "conversation"\nheld_tools = ["fetch_url"]\n[ceilings]\ntokens = 60000\nturns = 8\n'
    with DemoSite() as site:
        spec = write_spec(tmp_path / "s.toml", more, what_it_does=f"Audits {site.url}")
        held = run_for_json(spec, "--tools", AUDIT_TOOLS)
        assert (held["outcome"], held["waits_for"], held["exit_code"]) == ("held", ["fetch_url"], 3)
        session, again = held["session_id"], ("--client", "offline", "--tools", AUDIT_TOOLS)
        assert donewhen("resume", session, *again).exit_code == 3
        assert donewhen("attest", session, "--reviewer", "ann").exit_code == 0
        done = donewhen("resume", session, *again)
        assert (done.exit_code, site.requests[-1:] != ()) == (0, True), done.stderr


def test_the_task_may_come_from_a_file_or_stdin(spec_file: Path, tmp_path: Path) -> None:
    task = tmp_path / "task.txt"
    task.write_text("Say hello twice.")
    assert run_offline(spec_file, "--task", task).exit_code == 0
    piped = donewhen("run", spec_file, "--client", "offline", "--task", "-", stdin="Say hello.")
    assert piped.exit_code == 0


@pytest.mark.parametrize(("data", "problem"), [(b" \n", "blank"), (b"\xff\xfe\x00", "UTF-8")])
def test_a_task_that_says_nothing_is_refused(spec_file: Path, tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "task").write_bytes(data)
    result = run_offline(spec_file, "--task", "task")
    assert result.exit_code == 2
    assert problem in result.stderr
    assert not Path(".donewhen/ledger.db").exists()


def test_a_task_file_that_is_missing_is_named(spec_file: Path) -> None:
    result = run_offline(spec_file, "--task", "nowhere.txt")
    assert result.exit_code == 2
    assert "nowhere.txt: No such file" in result.stderr


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("typo = 1\n", "typo"),
        ("[ceilings]\nturns = -1\n", "ceilings.turns"),
        ('[[done_when]]\ncheck = "regex"\npattern = "("\n', "pattern"),
    ],
)
def test_a_wrong_spec_ends_with_2_and_names_the_key(tmp_path: Path, more: str, named: str) -> None:
    result = run_offline(write_spec(tmp_path / "s.toml", more))
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert not Path(".donewhen/ledger.db").exists()


def test_a_spec_with_a_model_cannot_be_asked_of_another(tmp_path: Path) -> None:
    result = run_offline(write_spec(tmp_path / "s.toml", 'model = "one"\n'), "--model", "other")
    assert result.exit_code == 2
    assert "'one'" in result.stderr


def test_the_offline_client_costs_nothing_even_under_a_cost_ceiling(tmp_path: Path) -> None:
    told = run_for_json(write_spec(tmp_path / "s.toml", 'model = "unheard-of"\n[ceilings]\nusd = 0\n'))
    assert (told["outcome"], told["cost_microusd"]) == ("done", 0)


def test_without_a_key_for_the_provider_nothing_is_written(spec_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    result = donewhen("run", spec_file, "--client", "openai", "--model", "m")
    assert result.exit_code == 2
    assert "OPENAI_API_KEY" in result.stderr
    assert not Path(".donewhen/ledger.db").exists()


def test_openai_needs_a_model(spec_file: Path) -> None:
    result = donewhen("run", spec_file, "--client", "openai")
    assert result.exit_code == 2
    assert "--model" in result.stderr


def test_a_provider_that_refuses_ends_with_1_and_can_be_resumed(spec_file: Path) -> None:
    pytest.importorskip("openai")
    with FakeProvider().script(Fault(401)) as provider:
        result = donewhen(
            "run", spec_file, "--client", "openai", "--model", "m", "--base-url", f"{provider.url}/v1", "--json"
        )
    told = json.loads(result.stdout)
    assert (result.exit_code, told["outcome"], told["total_tokens"]) == (1, "interrupted", 0)


def test_the_store_may_be_named_before_or_after_the_command_or_in_the_environment(
    spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert donewhen("--store", "a/l.db", "run", spec_file, "--client", "offline").exit_code == 0
    assert run_offline(spec_file, "--store", "b/l.db").exit_code == 0
    monkeypatch.setenv("DONEWHEN_STORE", str(tmp_path / "c" / "l.db"))
    assert run_offline(spec_file).exit_code == 0
    assert [len(as_json("sessions", "--store", f"{name}/l.db")) for name in "abc"] == [1, 1, 1]


def test_the_first_run_makes_a_key_and_signs_with_it(spec_file: Path) -> None:
    run_offline(spec_file)
    assert donewhen("verify").exit_code == 0
    with Ledger(".donewhen/ledger.db", read_only=True) as ledger:
        assert ledger.signed_by is not None


def test_a_store_begun_without_a_key_stays_without(spec_file: Path) -> None:
    Path(".donewhen").mkdir()
    Ledger(".donewhen/ledger.db").close()
    assert run_offline(spec_file).exit_code == 0
    with Ledger(".donewhen/ledger.db", read_only=True) as ledger:
        assert ledger.signed_by is None


def test_a_store_signed_by_another_key_is_refused_with_7(
    spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_offline(spec_file)
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", str(tmp_path / "other"))
    assert run_offline(spec_file).exit_code == 7
    run_offline(spec_file, "--store", "mine.db")  # makes the other key
    result = run_offline(spec_file)
    assert result.exit_code == 7
    assert "is signed by the key" in result.stderr


def test_a_database_of_something_else_is_refused_with_7(spec_file: Path) -> None:
    Path("other.db").write_bytes(b"no database at all" * 100)
    result = run_offline(spec_file, "--store", "other.db")
    assert result.exit_code == 7
    assert "Traceback" not in result.stderr


def test_a_folder_that_cannot_be_made_is_refused_with_7(spec_file: Path) -> None:
    Path("file").write_text("")
    result = run_offline(spec_file, "--store", "file/ledger.db")
    assert result.exit_code == 7


def test_a_fault_of_given_code_is_one_sentence_and_the_traceback_on_demand(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("donewhen.providers.offline.OfflineMessages.create", broken)
    plain = run_offline(spec_file)
    assert plain.exit_code == 1
    assert "RuntimeError: boom" in plain.stderr
    assert "Traceback" not in plain.stderr
    monkeypatch.setenv("DONEWHEN_TRACEBACK", "1")
    assert "Traceback" in run_offline(spec_file).stderr
