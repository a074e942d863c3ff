"""How a training run ends when it is interrupted."""

from pathlib import Path
from typing import Any

import pytest

from vision.training import run
from vision.training.config import TrainingConfig


class ExitingTrainer:
    """Ends as Lightning does: with SystemExit, after Ctrl-C or for reasons of its own."""

    def __init__(self, *, interrupted: bool) -> None:
        self.interrupted = interrupted

    def fit(self, *_: Any, **__: Any) -> None:
        raise SystemExit(1)


@pytest.mark.parametrize(("interrupted", "raised"), [(True, KeyboardInterrupt), (False, SystemExit)])
def test_ctrl_c_comes_out_as_itself(
    interrupted: bool, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_build_trainer", lambda *_: ExitingTrainer(interrupted=interrupted))
    with pytest.raises(raised):
        run.fit(TrainingConfig(out=tmp_path, name="x"), None, None, None, monitor="val_ap")  # type: ignore[arg-type]
