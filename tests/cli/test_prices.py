"""`donewhen prices`."""

from __future__ import annotations

from pathlib import Path

from command import as_json, donewhen, write_spec

OWN = """
[[prices]]
model = "our-model"
input = 1
output = 2.5
cache_write = 1.25
source = "our contract"
as_of = 2026-11-27
tiers = [{ above = 1000, input = 3, output = 5 }]
"""


def test_a_price_is_shown_by_kind_with_its_source_and_day() -> None:
    result = donewhen("prices", "claude-sonnet-4-6", "--provider", "anthropic")
    assert (result.exit_code, "genai-prices" in result.stdout) == (0, True)
    assert result.stdout.splitlines()[-1].split() == ["any", "3.00", "15.00", "0.30", "6.00", "6.00", "15.00"]
    assert "dearest rate that could apply" in result.stderr


def test_a_price_in_a_spec_goes_before_the_list(tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "own.toml", OWN)
    result = donewhen("prices", "our-model", "--spec", spec)
    assert result.stdout.splitlines()[0].endswith("from our contract, 2026-11-27")
    assert [line.split()[-2:] for line in result.stdout.splitlines()[3:]] == [["1.25", "2.50"], ["3.00", "5.00"]]
    assert donewhen("prices", "claude-sonnet-4-6", "--spec", spec).exit_code == 0


def test_json_has_every_tier_in_microusd(tmp_path: Path) -> None:
    told = as_json("prices", "our-model", "--spec", write_spec(tmp_path / "own.toml", OWN))
    assert (told["model"], told["source"], told["as_of"]) == ("our-model", "our contract", "2026-11-27")
    assert [tier["from_input_tokens"] for tier in told["tiers"]] == [0, 1001]
    assert told["tiers"][0]["reserved_at"] == {"input_microusd": 1_250_000, "output_microusd": 2_500_000}
    assert told["tiers"][0]["cache_read_microusd"] == 1_000_000


def test_an_unknown_model_is_one_sentence_that_says_what_to_do() -> None:
    result = donewhen("prices", "nobody-made-\x1b[31mthis", "--provider", "nobody")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "[[prices]]" in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stderr.count("\n") == 1
