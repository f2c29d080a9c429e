"""Everything else that a trigger can carry."""

import flyte
from flyte.models import ActionPhase
from flyte.notify import Email, NamedDelivery, NamedRule, Slack, Teams, Webhook

env = flyte.TaskEnvironment(name="trigger_options")

FULL = flyte.Trigger(
    name="full",
    automation=flyte.Cron("0 6 * * 1"),
    description="Starts the week. " + "Very long description. " * 20,
    auto_activate=False,
    inputs={"size": 10, "names": ["a", "b"], "ratio": 0.25},
    env_vars={"STAGE": "prod", "B": "2"},
    interruptible=True,
    overwrite_cache=True,
    queue="nightly",
    max_action_concurrency=4,
    labels={"team": "data"},
    annotations={"owner": "me"},
    custom_context={"trace": "on"},
    notifications=(
        Email(on_phase=ActionPhase.FAILED, recipients=("a@example.com",), cc=("b@example.com",)),
        Slack(on_phase=(ActionPhase.SUCCEEDED, ActionPhase.FAILED), webhook_url="https://hooks.example.com/1"),
        Teams(on_phase=ActionPhase.ABORTED, webhook_url="https://teams.example.com/1", title="Stopped"),
        Webhook(on_phase=ActionPhase.FAILED, url="https://example.com/hook", headers={"X": "1"}, body={"a": 1}),
    ),
)
BY_RULE = flyte.Trigger("by_rule", flyte.FixedRate(5), interruptible=False, notifications=NamedRule("on-call"))
BY_DELIVERY = flyte.Trigger(
    "by_delivery",
    flyte.FixedRate(5),
    notifications=NamedDelivery(on_phase=ActionPhase.FAILED, name="pager"),
)
ON_DEMAND = flyte.Trigger("on_demand", description="Nothing fires it", inputs={"size": 3})


@env.task(triggers=(FULL, BY_RULE, BY_DELIVERY, ON_DEMAND))
def launched(size: int = 1, names: list[str] = ["x"], ratio: float = 1.5, options: dict[str, int] = {}) -> int:
    return size
