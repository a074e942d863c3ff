"""docs/service.md lists what there is: settings with their defaults, metrics, error codes, options of the command."""

from __future__ import annotations

import re
from pathlib import Path

from service import errors
from service.metrics import METRIC_NAMES
from service.settings import Settings
from service.settings_table import default_text, settings_table

PAGE = (Path(__file__).parents[3] / "docs" / "service.md").read_text(encoding="utf-8")


def test_the_table_of_settings_is_the_one_of_the_code() -> None:
    assert settings_table() in PAGE, "run python -m service.settings_table docs/service.md"


def test_every_setting_says_what_it_means() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert "|" not in field.description, name


def test_defaults_are_written_for_people() -> None:
    fields = Settings.model_fields
    assert default_text("queue_bytes", fields["queue_bytes"]) == "`1073741824` (1 GiB)"
    assert default_text("otel", fields["otel"]) == "`false`"
    assert default_text("api_keys", fields["api_keys"]) == "none"
    assert default_text("request_timeout_s", fields["request_timeout_s"]) == "`30`"
    assert "home" not in default_text("data_dir", fields["data_dir"])


def test_every_metric_is_listed() -> None:
    listed = re.findall(r"^\| `(stride32_\w+)` \|", PAGE, re.MULTILINE)
    assert listed == list(METRIC_NAMES)


def test_every_code_of_an_error_is_listed() -> None:
    own = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
           and hasattr(kind, "code")}  # fmt: skip
    own |= {code for _, _, code in errors._LIBRARY_ERRORS}
    for code in own - {"cancelled"}:  # who went away is told nothing
        assert f"`{code}`" in PAGE, code
