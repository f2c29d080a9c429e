"""After any edits, a fresh checkout that reuses what others did is left with what a clean deploy leaves."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from flyte_build import pipeline
from flyte_build.errors import StepError
from flyte_build.model import Stale
from flyte_build.sharing.run import Sharing
from tests.behaviour.test_incremental import FILES
from tests.behaviour.test_law import EDITS, Script, scripts
from tests.checkout import Checkout, Left


def deployed(checkout: Checkout, *, cached: bool) -> Left | str:
    """What a deploy leaves, or its error."""
    project = checkout.project()
    targets = project.manifest.targets
    sharing = Sharing(project) if cached else None
    try:
        if sharing:
            sharing.fetch(targets.values())
        for target in targets.values():
            for step in pipeline.STEPS:
                if isinstance(pipeline.judge(project, target, step), Stale):
                    pipeline.run(project, target, step)
    except StepError as error:
        return error.message
    finally:
        if sharing:
            sharing.finish(targets)
            assert sharing.warnings == ()
        project.index.save()
        project.close()
    return checkout.left("fraud")


def elsewhere(checkout: Checkout, folder: Path) -> Checkout:
    """The same tree at another path, on a machine that has nothing."""
    shutil.copytree(checkout.folder, folder, ignore=shutil.ignore_patterns(".flyte-build"))
    copy = Checkout(folder)
    copy.environ |= checkout.environ
    return copy


def check(script: Script) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        checkout = Checkout(folder / "first", FILES)
        tables = f"[store]\nurl = 'file://{folder}/store'\n[cache]\nurl = 'file://{folder}/cache'\n"
        checkout.write("deploy.toml", tables + checkout.read("deploy.toml"))
        deployed(checkout, cached=True)
        for edit, deploys in script:
            EDITS[edit](checkout)
            if deploys:
                deployed(checkout, cached=True)
        reused = deployed(elsewhere(checkout, folder / "some" / "where"), cached=True)
        clean = deployed(elsewhere(checkout, folder / "clean"), cached=False)
        assert reused == clean
        assert deployed(checkout, cached=True) == clean


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(scripts)
def test_after_any_edits_reusing_leaves_what_a_clean_deploy_does(script: Script) -> None:
    check(script)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts)
def test_after_many_more_edits_reusing_leaves_what_a_clean_deploy_does(script: Script) -> None:
    check(script)
