"""Every example runs as it stands, in a folder of its own, without a key and without a network."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from donewhen import load_spec
from donewhen.checks import check_from
from donewhen.cli.lock import only_one
from donewhen.demo.site import DemoSite

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
CRON = EXAMPLES / "cron"
ELEMENTS = ("[1] ORIGINAL PROMISE", "[2]", "[3]", "[4]", "[5] UNRESOLVED ASSUMPTIONS")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"}


def run(folder: Path, name: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done


def assert_waits_for_a_person(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0
    places = [done.stdout.find(element) for element in ELEMENTS]
    assert places == sorted(places)
    assert places[0] > 0
    assert "not released:" in done.stdout


def first_json(text: str) -> dict[str, object]:
    return json.loads(next(line for line in text.splitlines() if line.startswith("{")))


def test_the_audit_of_a_page_ends_done_with_its_report(tmp_path: Path) -> None:
    done = run(tmp_path, "seo_audit.py")
    assert_waits_for_a_person(done)
    assert "spring-offer (status 404)" in done.stdout
    assert "## Recommendations\n\n1. Repair or remove the broken links." in done.stdout
    assert (tmp_path / ".donewhen" / "ledger.db").is_file()


def test_the_audit_takes_a_url(tmp_path: Path) -> None:
    with DemoSite() as site:
        done = run(tmp_path, "seo_audit.py", site.url_of("/prices"))
    assert "error `noindex`" in done.stdout


def test_a_page_that_robots_may_not_see_ends_in_a_report_that_says_so(tmp_path: Path) -> None:
    with DemoSite() as site:
        done = run(tmp_path, "seo_audit.py", site.url_of("/private/ledger"))
    assert done.returncode == 1
    assert "robots.txt disallows it" in done.stdout
    assert "no_progress" in done.stdout


@pytest.mark.parametrize(
    ("path", "finding"),
    [
        ("/brochure.pdf", "error `not-html`: The answer is application/pdf, not HTML."),
        ("/team", "warning `charset`: The page is iso-8859-1, not UTF-8."),
        ("/nowhere", "error `status`: The page answers with status 404."),
    ],
)
def test_what_is_no_proper_page_ends_in_one_sentence(tmp_path: Path, path: str, finding: str) -> None:
    with DemoSite() as site:
        done = run(tmp_path, "seo_audit.py", site.url_of(path))
    assert finding in done.stdout


def test_a_review_goes_from_the_questions_to_the_release(tmp_path: Path) -> None:
    done = run(tmp_path, "review_end_to_end.py", "--reviewer", "Ada")
    assert done.returncode == 0
    enough = "which is enough: attested by Ada (signed)"
    order = [
        "What does this do?",
        "[1] ORIGINAL PROMISE",
        "before anybody looked:",
        "attested by Ada,",
        enough,
        "handed on: ",
    ]
    places = [done.stdout.find(text) for text in order]
    assert -1 not in places
    assert places == sorted(places)


def test_a_review_ends_at_the_frame_where_nobody_attests(tmp_path: Path) -> None:
    done = run(tmp_path, "review_end_to_end.py")
    assert done.returncode == 3
    assert "before anybody looked:" in done.stdout
    assert "handed on" not in done.stdout


def test_a_diff_is_reviewed(tmp_path: Path) -> None:
    done = run(tmp_path, "code_review.py")
    assert_waits_for_a_person(done)
    assert "- blocker at shop/orders.py:2: a secret stands in the code" in done.stdout
    assert "## Verdict\n\nrequest changes" in done.stdout


def test_a_diff_comes_from_standard_input_too(tmp_path: Path) -> None:
    done = run(tmp_path, "code_review.py", "-", stdin="+++ b/README.md\n@@ -0,0 +1 @@\n+hello\n")
    assert "## Verdict\n\napprove" in done.stdout


def test_a_ticket_is_sorted(tmp_path: Path) -> None:
    done = run(tmp_path, "support_triage.py")
    assert_waits_for_a_person(done)
    assert first_json(done.stdout)["queue"] == "operations"


def test_an_invoice_is_read(tmp_path: Path) -> None:
    done = run(tmp_path, "document_extraction.py")
    assert_waits_for_a_person(done)
    found = first_json(done.stdout)
    assert (found["invoice_number"], found["date"], found["total"]) == ("SC-2041", "2026-03-04", "95.00")


def test_a_server_that_speaks_openai_s_wire_is_used(tmp_path: Path) -> None:
    done = run(tmp_path, "openai_compatible.py")
    assert_waits_for_a_person(done)
    assert first_json(done.stdout)["queue"] == "finance"


def test_an_agent_that_was_there_before_is_stopped_by_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "guarded_client.py")
    assert done.returncode == 0
    assert "suggested: Spring offers, take 4" in done.stdout
    assert "take 5" not in done.stdout
    assert "stopped: turn_ceiling (turn=5" in done.stdout
    assert done.stdout.count(": llm, ") == 4


def test_every_example_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    names = {path.name for path in EXAMPLES.glob("*.py") if not path.name.startswith("_")}
    assert {name for name in names if f'"{name}"' not in here} == set()


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.toml")), ids=lambda path: path.name)
def test_every_spec_file_can_be_read(path: Path) -> None:
    spec = load_spec(path)
    assert [check_from(check) for check in spec.done_when]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The cron job's folder, as its reader copies it."""
    return Path(shutil.copytree(CRON, tmp_path / "job"))


def run_job(job: Path, url: str) -> subprocess.CompletedProcess[str]:
    task = (job / "task.txt").read_text(encoding="utf-8").replace("https://www.example.com/", url)
    (job / "task.txt").write_text(task, encoding="utf-8")
    settings = {"DONEWHEN": f"{sys.executable} -m donewhen", "DONEWHEN_STORE": str(job / "ledger.db")}
    return subprocess.run(
        [str(job / "audit.sh")],
        env={**environment(), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_job_is_silent_when_well(job: Path) -> None:
    with DemoSite() as site:
        done = run_job(job, site.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_job_says_what_is_not_well(job: Path) -> None:
    spec = (job / "spec.toml").read_text(encoding="utf-8")
    (job / "spec.toml").write_text(re.sub(r"(?m)^turns = .*$", "turns = 1", spec), encoding="utf-8")
    with DemoSite() as site:
        done = run_job(job, site.url)
    assert done.returncode == 4
    assert "turn_ceiling" in done.stderr


def test_the_job_says_that_the_page_could_not_be_audited(job: Path) -> None:
    with DemoSite() as site:
        done = run_job(job, site.url_of("/private/ledger"))
    assert done.returncode == 6
    assert "the page could be audited" in done.stderr


def test_the_job_leaves_a_run_alone_that_is_not_over(job: Path) -> None:
    spec = job / "spec.toml"
    with DemoSite() as site, only_one(job / "ledger.db", str(spec.resolve()), spec.name):
        done = run_job(job, site.url)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert site.requests == ()


def test_the_unit_files_run_the_same_script() -> None:
    units = {path.suffix: configparser.RawConfigParser(strict=False) for path in CRON.glob("donewhen-audit.*")}
    for suffix, unit in units.items():
        unit.read(CRON / f"donewhen-audit{suffix}", encoding="utf-8")
    assert units[".service"]["Service"]["ExecStart"].endswith("/audit.sh")
    assert units[".service"]["Service"]["Type"] == "oneshot"
    assert units[".timer"]["Timer"]["OnCalendar"] == "Mon..Fri 06:17"
    [line] = [line for line in (CRON / "crontab").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert re.fullmatch(r"\d+ \d+ \* \* 1-5  cd \"\$HOME/[\w-]+\" && \./audit\.sh", line)
