"""Links that a task shows in the console."""

from dataclasses import dataclass

import flyte


@dataclass
class Dashboard:
    host: str
    name: str = "Dashboard"
    icon_uri: str | None = "https://example.com/icon.png"

    def get_link(self, run_name, project, domain, context, parent_action_name, action_name, pod_name, **kwargs):
        return f"https://{self.host}/{project}/{domain}/{run_name}/{parent_action_name}/{action_name}/{pod_name}"


env = flyte.TaskEnvironment(name="task_links")


@env.task(links=Dashboard("one.example.com"))
def one_link() -> None: ...


@env.task(links=(Dashboard("one.example.com"), Dashboard("two.example.com", name="Second", icon_uri="")))
async def two_links() -> None: ...


@env.task(links=[Dashboard("list.example.com")])
def listed_link() -> None: ...
