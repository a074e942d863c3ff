"""The documentation is true: links resolve, code blocks run, commands, options and settings exist. Loads no model."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from vision.cli.main import app
from vision.cli.options import pipeline_config
from vision.config import PipelineConfig, load_config, parse_value
from vision.training.classifier_config import ClassifierTrainingConfig
from vision.training.config import DetectorTrainingConfig
from vision.training.embedder_config import EmbedderTrainingConfig
from vision.training.kinds import config_class
from vision.training.search_space import read_parameter

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "CHANGELOG.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
# Blocks with such a word behind the language need weights or media, or a server (tests/integration/test_docs_service.py
# runs those): they compile, and what they import must exist.
NEEDS = {"needs-model", "needs-service"}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL_END = ("|", "||", "&&", ";", ">", ">>", "<", "2>")
ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, the words of its first line, and its text."""

    page: Path
    line: int
    words: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def read_blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in _blocks(page) if block.words and block.words[0] in languages]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(page, line, tuple(match[1].split()), match[2])


@cache
def root_command() -> Any:
    """Return the command line as typer builds it, which takes a while."""
    return typer.main.get_command(app)


def leaf_commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path of every command with the command."""
    for name, command in root_command().commands.items():
        children = getattr(command, "commands", None)
        if children is None:
            yield (name,), command
        else:
            yield from (((name, child_name), child) for child_name, child in children.items())


@cache
def read_commands() -> list[tuple[str, list[str]]]:
    """Return (place, words after ``stride32``) of every command line in the shell blocks."""
    return [
        (block.name, words)
        for block in read_blocks("bash", "console", "sh", "shell")
        for line in block.text.replace("\\\n", " ").splitlines()
        for words in _stride32_calls(line.removeprefix("$ "))
    ]


def _stride32_calls(line: str) -> Iterator[list[str]]:
    # Shell operators become words of their own; quotes and comments are as in a shell.
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    while words:
        end = next((i for i, word in enumerate(words) if word in SHELL_END), len(words))
        call, words = words[:end], words[end + 1 :]
        while call and ASSIGNMENT.match(call[0]):
            call = call[1:]
        if call and call[0] == "stride32":
            yield call[1:]


def parse_command(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the command's path and its parsed options, as the real command line would see them; nothing runs."""
    command = root_command()
    path: list[str] = []
    rest = list(words)
    while hasattr(command, "commands"):
        options = {name for parameter in command.params for name in parameter.opts}
        while rest and rest[0] in options:
            rest = rest[1:]
        if not rest:
            return path, {}
        default = getattr(command, "default_command", None)
        if default is not None and rest[0] not in command.commands:
            rest = [default, *rest]
        assert rest[0] in command.commands, f"no command {rest[0]!r} among {sorted(command.commands)}"
        path.append(rest[0])
        command, rest = command.commands[rest[0]], rest[1:]
    parsed: dict[str, Any] = command.make_context(" ".join(path), rest).params
    return path, parsed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [link for link in LINK.findall(text) if "://" not in link and not link.startswith("mailto:")]
    for target in targets:
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor:
            assert anchor in headings(file), f"{page.name} links to {target}; {file.name} has no such heading"


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("block", read_blocks("python"), ids=lambda block: block.name)
def test_python_blocks_compile_and_run(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = compile(block.text, block.name, "exec")
    if NEEDS & {*block.words}:
        assert_imports_exist(ast.parse(block.text))
        return
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "__main__"})


def assert_imports_exist(tree: ast.Module) -> None:
    """Check ``from vision.x import y`` against the source of vision.x: importing it could take seconds of torch."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vision"):
            source = REPOSITORY.joinpath(*node.module.split(".")).with_suffix(".py")
            assert source.is_file(), f"there is no module {node.module}"
            defined = names_defined(ast.parse(source.read_text(encoding="utf-8")))
            for alias in node.names:
                assert alias.name in defined, f"{node.module} has no {alias.name}"


def names_defined(module: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    return names


@pytest.mark.parametrize(("place", "words"), read_commands(), ids=lambda value: str(value))
def test_command_lines_parse(place: str, words: list[str]) -> None:
    path, parsed = parse_command(words)
    overrides = parsed.get("overrides") or []
    if path[:1] == ["train"]:
        check_training_overrides(path[1], overrides)
    elif path[0] in ("tune", "lr-find"):
        check_training_overrides(parsed["kind"], overrides)
        for text in parsed.get("param") or ():
            read_parameter(text, config_class(parsed["kind"]))
    elif overrides:
        pipeline_config(None, overrides)


def check_training_overrides(task: str, overrides: Sequence[str]) -> None:
    """Check the keys and values of ``--set``; fields without a default get one first, as the options would give it."""
    data = {"detector": ["train_data=a.json"], "window": ["train_data=a.json"]}.get(task, ["data=crops"])
    load_config(None, config_class(task), [*data, *overrides])


@pytest.mark.parametrize(
    "words",
    [
        ["trace", "a.mp4"],
        ["track", "a.mp4", "--output", "b"],
        ["detect"],
        ["eval", "tracks"],
        ["track", "a.mp4", "--max-frames", "none"],
    ],
    ids=" ".join,
)
def test_wrong_command_lines_are_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match=r".+"):
        parse_command(words)


@pytest.mark.parametrize("block", read_blocks("toml"), ids=lambda block: block.name)
def test_toml_blocks_are_settings(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(block.text, encoding="utf-8")
    keys = tomllib.loads(block.text).keys()
    if "train_data" in keys:
        load_config(path, DetectorTrainingConfig)
    elif "task" in keys:
        load_config(path, ClassifierTrainingConfig)
    elif "data" in keys:
        load_config(path, EmbedderTrainingConfig)
    else:
        load_config(path, PipelineConfig)


def test_every_command_is_documented() -> None:
    documented = {tuple(parse_command(words)[0]) for _, words in read_commands()}
    for path, _ in leaf_commands():
        assert path in documented, f"no example of stride32 {' '.join(path)} in README.md or docs/"


def test_every_option_is_documented() -> None:
    """Each option stands somewhere in docs/; what it means is its --help."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for path, command in leaf_commands():
        for name in (name for parameter in command.params for name in parameter.opts if name.startswith("--")):
            # A switch that is on is documented by what turns it off.
            found = re.search(rf"{name}\b", text) or re.search(rf"--no-{name[2:]}\b", text)
            assert found, f"stride32 {' '.join(path)} {name} stands nowhere in the documentation"


def read_defaults(page: str) -> dict[str, str]:
    """Return key -> default of every table row that begins with a key in backquotes."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `([\w.]+)` \| `?([^|`]+?)`? \|", text, re.MULTILINE))


def test_settings_tables_are_complete() -> None:
    """docs/tracking.md, offline.md and cli.md list each setting of the pipeline with its default."""
    config, rows = PipelineConfig(), {f"tracking.{key}": value for key, value in read_defaults("tracking.md").items()}
    rows |= {f"offline.{key}": value for key, value in read_defaults("offline.md").items()}
    rows |= read_defaults("cli.md")
    for table in fields(config):
        for item in fields(getattr(config, table.name)):
            key, default = f"{table.name}.{item.name}", getattr(getattr(config, table.name), item.name)
            assert key in rows, f"{key} is not in the documentation"
            expected = {(): "all", None: "none"}.get(default, default)
            assert parse_value(rows[key]) == expected, key


def test_readme_starts_with_the_two_commands() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    first = next(block for block in _blocks(REPOSITORY / "README.md"))
    assert [line.split("#")[0].strip() for line in first.text.splitlines()] == ["make demo", "make test"]
    assert len(readme.splitlines()) <= 150
