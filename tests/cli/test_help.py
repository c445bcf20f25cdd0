"""Every command explains itself, here and in the README."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import donewhen

import donewhen as package
from donewhen.cli import main
from donewhen.cli.exits import MEANINGS

COMMANDS = sorted(main.commands)
README = Path(__file__).parents[2] / "README.md"


def test_the_commands_are_the_agreed_ones() -> None:
    agreed = (
        "adopt attest budget checkpoint demo erase export halt key new prices raise receipt reconcile reject release "
        "resume review run sessions show store verify verify-receipt watch"
    )
    assert agreed.split() == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = donewhen(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: donewhen {name}" in result.stdout
    assert main.commands[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_name_that_says_it_or_help(name: str) -> None:
    from click import Option

    silent = {"turns", "tokens", "minutes", "tool_calls", "client_name"}
    options = [option for option in main.commands[name].params if isinstance(option, Option)]
    assert all(option.help or option.name in silent for option in options)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"donewhen {name}" in README.read_text(encoding="utf-8")


def test_the_exit_codes_are_in_the_help() -> None:
    told = donewhen("--help").stdout
    assert all(f"{code:>3}  {meaning}" in told for code, meaning in MEANINGS.items())


def test_the_version_is_the_packages() -> None:
    assert donewhen("--version").stdout == f"donewhen {package.__version__}\n"


def test_no_command_is_told_with_the_help_and_code_2() -> None:
    result = donewhen()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


def test_an_unknown_command_is_one_sentence() -> None:
    result = donewhen("frobnicate")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "donewhen: No such command 'frobnicate'. Try 'donewhen --help'.\n"
