"""Spec files: what may stand in one, what may not, and that what is written is what is read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from specs import PROMISE, SPECS, WITNESSES, made

from donewhen.balance import Ceilings
from donewhen.checks import check_from
from donewhen.circuit_breaker import LARGEST_LIMIT
from donewhen.errors import MissingExtraError, SpecError
from donewhen.spec import CHECK_KEYS
from donewhen.spec_file import MOST_BYTES, Record, Review, Spec, ask_spec, dump_spec, load_spec

HEAD = "".join(f'{name} = "{answer}"\n' for name, answer in PROMISE.items())

Load = Callable[[str | bytes], Spec]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spec.toml"


@pytest.fixture
def load(path: Path) -> Load:
    def write_and_load(content: str | bytes) -> Spec:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_spec(path)

    return write_and_load


class TestReading:
    def test_three_answers_are_enough(self, load: Load) -> None:
        assert load(HEAD) == made()

    def test_turns_and_tokens_always_have_a_ceiling(self, load: Load) -> None:
        assert load(HEAD).ceilings == Ceilings(turns=5, tokens=15_000)
        assert load(HEAD + "[ceilings]\ntool_calls = 1").ceilings == Ceilings(5, 15_000, tool_calls=1)

    def test_everything_can_be_said(self, load: Load) -> None:
        spec = load(
            HEAD
            + """
model = "a-model"
max_tokens = 1_000
keep = "conversation"
bound = "estimate"
held_tools = ["send", "pay"]
ceilings = { turns = 7, tokens = 0, usd = 0.25, minutes = 1.5, tool_calls = 8, repeats = 3 }
[[done_when]]
check = "shell"
command = ["make", "check"]
[[done_when]]
check = "human"
criterion = "It reads well."
[review]
quorum = 2
reviewers = ["ann", "ben"]
expiry_hours = 72
own_work = true
signed = false
[record]
checkpoint_to = ["/mnt/kept.txt"]
witnesses = [{ url = "https://witness.example/0", vkey = "VKEY" }]
every_rows = 100
every_seconds = 300
""".replace("VKEY", WITNESS_VKEY)
        )
        assert spec == made(
            model="a-model",
            max_tokens=1_000,
            keep="conversation",
            bound="estimate",
            held_tools=("send", "pay"),
            ceilings=Ceilings(7, 0, 250_000, 8, 90_000, 3),
            done_when=(
                {"check": "shell", "command": ["make", "check"]},
                {"check": "human", "criterion": "It reads well."},
            ),
            review=Review(quorum=2, reviewers=("ann", "ben"), expiry_hours=72, own_work=True, signed=False),
            record=Record(
                checkpoint_to=("/mnt/kept.txt",),
                witnesses=((WITNESS_URL, WITNESS_VKEY),),
                every_rows=100,
                every_seconds=300,
            ),
        )

    def test_answers_are_stripped(self, load: Load) -> None:
        assert load(HEAD.replace('"A report."', '"""\n  A report.\n\n"""')) == made()

    def test_a_byte_order_mark_is_passed_over(self, load: Load) -> None:
        assert load(b"\xef\xbb\xbf" + HEAD.encode()) == made()

    @pytest.mark.parametrize(
        ("typed", "microusd"),
        [
            ("0.1", 100_000),
            ("5", 5_000_000),
            ("0", 0),
            ("-0.0", 0),
            ("1e-6", 1),
            ("0.2500000000", 250_000),
            ("1_000.000_001", 1_000_000_001),
            ("0e999999", 0),
            ("9007199254.740991", LARGEST_LIMIT),
        ],
    )
    def test_money_is_read_from_its_digits(self, load: Load, typed: str, microusd: int) -> None:
        assert load(f"{HEAD}ceilings.usd = {typed}").ceilings.cost_microusd == microusd

    @pytest.mark.parametrize(("typed", "milliseconds"), [("10", 600_000), ("0.5", 30_000), ("0.016667", 1_000)])
    def test_minutes_are_read_to_the_nearest_millisecond(self, load: Load, typed: str, milliseconds: int) -> None:
        assert load(f"{HEAD}[ceilings]\nminutes = {typed}").ceilings.milliseconds == milliseconds


WITNESS_URL, WITNESS_VKEY = WITNESSES[0]

WRONG = [
    # what is added, the key that is named, and what is said
    ("[record]\nto = 1", "record.to", "is not a key of a spec"),
    ("record = 1", "record", "must be a table"),
    ('[record]\ncheckpoint_to = "a"', "record.checkpoint_to", "must be a list"),
    ('[record]\ncheckpoint_to = [""]', "record.checkpoint_to[1]", "must not be blank"),
    ('[record]\ncheckpoint_to = ["a", "a"]', "record.checkpoint_to[2]", "is there twice"),
    ("[record]\nevery_rows = 5", "record.every_rows", "nothing says where"),
    ('[record]\ncheckpoint_to = ["a"]\nevery_rows = 0', "record.every_rows", "1 or more (found 0)"),
    ('[record]\ncheckpoint_to = ["a"]\nevery_seconds = 0.5', "record.every_seconds", "a whole number (found 0.5)"),
    ("[record]\nwitnesses = 5", "record.witnesses", "must be a list"),
    ("[record]\nwitnesses = [5]", "record.witnesses[1]", "a table with url and vkey"),
    ('[record]\nwitnesses = [{url = "http://a"}]', "record.witnesses[1]", "a table with url and vkey"),
    ('[record]\nwitnesses = [["http://a"]]', "record.witnesses[1]", "a table with url and vkey"),
    (
        f'[record]\nwitnesses = [{{url = "a", vkey = "{WITNESS_VKEY}"}}]',
        "record.witnesses[1].url",
        "only http and https",
    ),
    (
        '[record]\nwitnesses = [{url = "http://a", vkey = "a+b"}]',
        "record.witnesses[1].vkey",
        "not an Ed25519 witness's key",
    ),
    ('[record]\nwitnesses = [{url = "http://a", vkey = 5}]', "record.witnesses[1].vkey", "must be text"),
    (
        f'[record]\nwitnesses = [["{WITNESS_URL}", "{WITNESS_VKEY}"], ["{WITNESS_URL}", "{WITNESS_VKEY}"]]',
        "record.witnesses[2]",
        "is there twice",
    ),
    ("colour = 1", "colour", "is not a key of a spec"),
    ("[ceilings]\nturn = 1", "ceilings.turn", "is not a key of a spec"),
    ("[review]\nquorums = 1", "review.quorums", "is not a key of a spec"),
    ("[ceilings]\nturns = -1", "ceilings.turns", "0 or more (found -1)"),
    ("[ceilings]\ntokens = true", "ceilings.tokens", "a whole number (found True)"),
    ("[ceilings]\ntokens = 1.5", "ceilings.tokens", "a whole number (found 1.5)"),
    ('[ceilings]\ntokens = "many"', "ceilings.tokens", "a whole number (found 'many')"),
    ("[ceilings]\ntool_calls = 9007199254740992", "ceilings.tool_calls", "9007199254740991 or less"),
    ("[ceilings]\nrepeats = 1", "ceilings.repeats", "2 or more (found 1)"),
    ("[ceilings]\nturns = 0x" + "f" * 9_000, "ceilings.turns", "more than 80 digits"),
    ("[ceilings]\nusd = true", "ceilings.usd", "a number (found True)"),
    ('[ceilings]\nusd = "5"', "ceilings.usd", "a number (found '5')"),
    ("[ceilings]\nusd = -0.5", "ceilings.usd", "0 or more (found '-0.5')"),
    ("[ceilings]\nusd = -1", "ceilings.usd", "0 or more (found -1)"),
    ("[ceilings]\nusd = nan", "ceilings.usd", "finite number (found 'nan')"),
    ("[ceilings]\nusd = -inf", "ceilings.usd", "finite number (found '-inf')"),
    ("[ceilings]\nusd = 1e99999999999999999999", "ceilings.usd", "finite number"),
    ("[ceilings]\nusd = 1e999999999", "ceilings.usd", "9007199254.740991 or less"),
    ("[ceilings]\nusd = 9007199254.740992", "ceilings.usd", "9007199254.740991 or less (found '9007199254.740992')"),
    ("[ceilings]\nusd = 0.0000001", "ceilings.usd", "six decimals (found '0.0000001')"),
    ("[ceilings]\nusd = 1e-999999999", "ceilings.usd", "six decimals"),
    ("[ceilings]\nminutes = -1.5", "ceilings.minutes", "0 or more"),
    ("[ceilings]\nminutes = 150119987579.02", "ceilings.minutes", "or less"),
    ("ceilings = 5", "ceilings", "a table, written [ceilings] (found 5)"),
    ('review = "ann"', "review", "a table, written [review]"),
    ('keep = "all"', "keep", "'nothing' or 'conversation' (found 'all')"),
    ("bound = []", "bound", "'strict' or 'estimate' (found 'a list')"),
    ('model = " "', "model", "must not be blank"),
    ("model = 4", "model", "must be text (found 4)"),
    ("max_tokens = 0", "max_tokens", "1 or more (found 0)"),
    ('held_tools = "send"', "held_tools", "must be a list (found 'send')"),
    ('held_tools = ["a", "b", "a"]', "held_tools[3]", "is there twice (found 'a')"),
    ('held_tools = ["a "]', "held_tools[1]", "white space"),
    ("done_when = 1", "done_when", "[[done_when]]"),
    ('[done_when]\ncheck = "shell"', "done_when", "[[done_when]]"),
    ("done_when = [1]", "done_when[1]", "must be a table (found 1)"),
    ('[[done_when]]\ncommand = "x"', "done_when[1].check", "is missing; the kinds are shell, "),
    ('[[done_when]]\ncheck = "magic"', "done_when[1].check", "(found 'magic')"),
    ("[[done_when]]\ncheck = []", "done_when[1].check", "(found 'a list')"),
    ("[review]\nquorum = 0", "review.quorum", "1 or more (found 0)"),
    ('[review]\nquorum = 3\nreviewers = ["a", "b"]', "review.quorum", "only 2 reviewers"),
    ('[review]\nreviewers = ["a", "a"]', "review.reviewers[2]", "is there twice (found 'a')"),
    ('[review]\nreviewers = [""]', "review.reviewers[1]", "must not be blank"),
    ("[review]\nown_work = 1", "review.own_work", "true or false (found 1)"),
    ('[review]\nsigned = "yes"', "review.signed", "true or false (found 'yes')"),
    ("[review]\nexpiry_hours = 1.5", "review.expiry_hours", "a whole number (found 1.5)"),
]

WRONG_CHECKS = [
    ('"a"\nwhen = 1979-05-27', ".when", "must be text, a number"),
    ('"a"\nlimit = inf', ".limit", "a finite number (found inf)"),
    ('"a"\nlimit = [1, 9007199254740992]', ".limit[2]", "9007199254740991"),
    ('"a"\nname = "x\\u0000"', ".name", "NUL"),
    ('"a"\nlimit = {"$number" = "1"}', ".limit.$number", "this name is taken"),
    ('"a"\n"a\\u0000" = 1', "", "NUL"),
    ('"a"\nlimit = ' + "[" * 70 + "]" * 70, "", "nested too deeply"),
    ('" "', ".pattern", "must not be blank"),
    ("5", ".pattern", "must be text (found 5)"),
]


class TestRefusing:
    @pytest.mark.parametrize(("added", "key", "said"), WRONG)
    def test_what_cannot_be_said_is_one_error_with_its_place(
        self, load: Load, path: Path, added: str, key: str, said: str
    ) -> None:
        with pytest.raises(SpecError) as caught:
            load(HEAD + added)
        assert (caught.value.path, caught.value.field) == (str(path), key)
        assert said in str(caught.value)
        assert str(caught.value).startswith(f"{path}: {key}: ")

    @pytest.mark.parametrize(("rest", "key", "said"), WRONG_CHECKS)
    def test_a_check_is_counted_from_one(self, load: Load, rest: str, key: str, said: str) -> None:
        second = f'{HEAD}[[done_when]]\ncheck = "human"\ncriterion = "x"\n[[done_when]]\ncheck = "regex"\npattern = '
        with pytest.raises(SpecError) as caught:
            load(second + rest)
        assert caught.value.field == f"done_when[2]{key}"
        assert said in str(caught.value)

    @pytest.mark.parametrize(("kind", "key"), CHECK_KEYS.items())
    def test_each_kind_of_check_has_a_key_that_it_needs(self, load: Load, kind: str, key: str) -> None:
        with pytest.raises(SpecError, match=f"is missing, and a {kind} check needs it") as caught:
            load(f'{HEAD}[[done_when]]\ncheck = "{kind}"')
        assert caught.value.field == f"done_when[1].{key}"

    @pytest.mark.parametrize("name", PROMISE)
    def test_no_answer_may_be_missing_or_blank_or_no_text(self, load: Load, name: str) -> None:
        for line, said in [("", "is missing"), (f'{name} = " "', "must not be blank"), (f"{name} = 5", "must be text")]:
            others = "".join(f"{other} = 'x'\n" for other in PROMISE if other != name)
            with pytest.raises(SpecError, match=said) as caught:
                load(others + line)
            assert caught.value.field == name

    @pytest.mark.parametrize(
        ("added", "line"), [("model =", 4), ("\n[[[", 5), ('model = "a"\nmodel = "b"', 5), ("keep = 'x\ny'", 4)]
    )
    def test_what_is_not_toml_names_the_line(self, load: Load, path: Path, added: str, line: int) -> None:
        with pytest.raises(SpecError, match=f"line {line} is not TOML") as caught:
            load(HEAD + added)
        assert caught.value.path == str(path)

    def test_what_is_not_utf8_names_the_line(self, load: Load) -> None:
        with pytest.raises(SpecError, match="line 4 is not UTF-8"):
            load(HEAD.encode() + b"model = 'caf\xe9'")

    def test_a_file_that_is_too_large_is_not_read(self, load: Load) -> None:
        with pytest.raises(SpecError, match="larger than 1000000 bytes"):
            load(HEAD + "#" * MOST_BYTES)

    def test_endless_nesting_is_refused(self, load: Load) -> None:
        with pytest.raises(SpecError, match="nested"):
            load(f"{HEAD}held_tools = {'[' * 20_000}{']' * 20_000}")

    def test_a_long_value_is_shown_cut(self, load: Load) -> None:
        with pytest.raises(SpecError) as caught:
            load(f'{HEAD}keep = "{"x" * 10_000}"')
        assert len(str(caught.value)) < 500

    def test_a_missing_file_is_told(self, path: Path) -> None:
        with pytest.raises(SpecError, match="No such file") as caught:
            load_spec(str(path))
        assert caught.value.path == str(path)

    def test_a_folder_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match="this is a folder"):
            load_spec(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
    def test_a_pipe_is_not_waited_for(self, path: Path) -> None:
        os.mkfifo(path)
        with pytest.raises(SpecError, match="this is not a file"):
            load_spec(path)

    def test_a_path_that_cannot_be_one_is_told(self) -> None:
        with pytest.raises(SpecError, match="cannot be read"):
            load_spec("a\0b")

    def test_the_extra_that_is_missing_is_named(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tomlkit", None)
        with pytest.raises(MissingExtraError, match=r"reading spec files needs .*donewhen\[cli\]"):
            load_spec(path)
        with pytest.raises(MissingExtraError, match=r"writing spec files needs .*donewhen\[cli\]"):
            dump_spec(made())


class TestWriting:
    @given(SPECS)
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
    def test_what_is_written_is_what_is_read(self, tmp_path: Path, spec: Spec) -> None:
        path = tmp_path / "spec.toml"
        path.write_bytes(dump_spec(spec).encode())
        assert load_spec(path) == spec

    @pytest.mark.parametrize("answer", ["\n0", "0\n", "\n\n0\n1", "0\\\n1", 'a""""b\nc"'])
    def test_a_text_of_several_lines_is_read_as_it_was_written(self, tmp_path: Path, answer: str) -> None:
        spec = made(done_when=({"check": "shell", "command": answer},))
        (tmp_path / "spec.toml").write_bytes(dump_spec(spec).encode())
        assert load_spec(tmp_path / "spec.toml") == spec

    def test_every_question_and_default_is_explained(self) -> None:
        text = dump_spec(made())
        for said in ["# What does this do?", "# What does this NOT do?", "5 and 15000 where", "# usd = 0.50"]:
            assert said in text

    def test_it_can_be_read_by_every_reader_of_toml(self) -> None:
        tomllib = pytest.importorskip("tomllib")
        spec = made(done_when=({"check": "json_schema", "schema": {"type": "object", "a b": [{"x": 0.5}]}},))
        assert tomllib.loads(dump_spec(spec))["done_when"] == list(spec.done_when)

    def test_a_hint_can_be_taken_up_by_taking_the_mark_away(self, load: Load) -> None:
        lines = dump_spec(made()).splitlines()
        before_prices = lines[: lines.index("# [[prices]]")]  # a table, which is taken up whole
        hints = [line for line in before_prices if line.startswith("# ") and " = " in line]
        for hint in hints:
            taken = "\n".join(line.removeprefix("# ") if line == hint else line for line in lines)
            # What waits for a person needs a conversation that is kept.
            text = taken.replace('keep = "nothing"', 'keep = "conversation"') if "held_tools" in hint else taken
            # How often something is kept says nothing where nothing says where.
            text = text.replace("# checkpoint_to", "checkpoint_to") if "every_" in hint else text
            assert load(text) != made()
        assert len(hints) == 16

    def test_a_text_of_several_lines_stands_on_several_lines(self) -> None:
        assert 'what_it_does = """one\ntwo"""' in dump_spec(made(what_it_does="one\ntwo"))

    def test_money_looks_like_money(self) -> None:
        assert "usd = 5.00\n" in dump_spec(made(ceilings=Ceilings(1, 1, 5_000_000)))
        assert "minutes = 10\n" in dump_spec(made(ceilings=Ceilings(1, 1, milliseconds=600_000)))


def asked(*answers: str) -> tuple[Spec, list[str]]:
    waiting = iter(answers)
    lines: list[str] = []
    return ask_spec(lambda _: next(waiting), lines.append), lines


class TestAsking:
    @pytest.mark.parametrize(
        ("answers", "check"),
        [
            (["1", "make check"], {"check": "shell", "command": "make check"}),
            (["Shell", "make check"], {"check": "shell", "command": "make check"}),
            (["2", "^OK$"], {"check": "regex", "pattern": "^OK$"}),
            (["3"], {"check": "human", "criterion": "A report."}),
            ([""], {"check": "human", "criterion": "A report."}),
            ([], {"check": "human", "criterion": "A report."}),
        ],
    )
    def test_it_asks_how_a_machine_could_check(self, answers: list[str], check: dict[str, str]) -> None:
        spec, _ = asked(*PROMISE.values(), *answers)
        assert spec == made(done_when=(check,))
        assert check_from(spec.done_when[0]).describe().items() >= check.items()

    def test_what_is_no_choice_and_no_pattern_is_asked_again(self) -> None:
        spec, lines = asked(*PROMISE.values(), "4", "2", "(", "", "OK")
        assert spec.done_when == ({"check": "regex", "pattern": "OK"},)
        assert any("'4' is not one of them" in line for line in lines)
        assert any("not a regular expression" in line for line in lines)
        assert lines[-1] == "missing answer: Which regular expression?"

    def test_an_answer_that_was_chosen_must_be_given(self) -> None:
        with pytest.raises(SpecError, match=r"the input ended before this was answered: Which command\?"):
            asked(*PROMISE.values(), "1")
