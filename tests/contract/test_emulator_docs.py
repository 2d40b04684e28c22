# SPDX-License-Identifier: Apache-2.0
"""docs/guides/local-emulator.md agrees with the emulator."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import get_args

from airflow_provider_losant.emulator import Emulator, faults, switches
from airflow_provider_losant.emulator.__main__ import main
from airflow_provider_losant.emulator.http.schemas import body_error
from airflow_provider_losant.emulator.seed import Seed
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "guides" / "local-emulator.md").read_text()


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_python_example_runs() -> None:
    (example,) = snippets("python")

    exec(compile(example, "docs/guides/local-emulator.md", "exec"), {})


def test_the_seed_example_can_be_applied(tmp_path: Path) -> None:
    (example,) = snippets("json")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "energy.ipynb").write_text("{}")
    (tmp_path / "seed.json").write_text(example)
    notebook = json.loads(example)["notebooks"][0]

    with Emulator() as losant:
        ids = Seed.load(tmp_path / "seed.json").apply(losant.backend, losant.application_id)

    assert ids == {"Daily energy": "575ed78e7ae143cd83dc4aab"}
    assert body_error("newNotebook", {key: notebook[key] for key in ("name", "inputs", "outputs")}) is None


def test_every_fault_is_in_one_of_the_tables() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)

    assert sorted(listed) == sorted(get_args(faults.Kind))


def test_the_switches_that_are_examples_exist() -> None:
    (section,) = re.findall(r"^## [^\n]*`Switches`[^\n]*\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    examples = set(re.findall(r"\(`(\w+)`\)", section))

    assert len(examples) > 3
    assert examples <= switches.Switches().as_json().keys()


def test_every_option_of_the_command_is_on_the_page() -> None:
    options = re.findall(r'"(--[a-z-]+)"', inspect.getsource(inspect.getmodule(main) or main))

    assert len(options) == 11
    assert [option for option in options if option not in PAGE] == []
