"""Flyte's services over the embedded control plane's tables, as the generated server classes want them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.interceptor import Interceptor
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication
from flyteidl2.auth import identity_connect, identity_pb2
from flyteidl2.cluster import payload_pb2 as cluster_pb2
from flyteidl2.cluster import service_connect as cluster_connect
from flyteidl2.dataproxy import dataproxy_service_connect, dataproxy_service_pb2
from flyteidl2.project import project_service_connect, project_service_pb2
from flyteidl2.task import task_service_connect, task_service_pb2
from flyteidl2.trigger import trigger_service_connect, trigger_service_pb2
from google.protobuf.message import Message

from flyte_build.backend import rules, task_table, trigger_table, uploads
from flyte_build.backend.database import Database, now
from flyte_build.backend.refused import Refused

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response")

Context = RequestContext[Any, Any]

_DOMAINS = ("development", "staging", "production")
_DEFAULT_PROJECT = "flytesnacks"


class Tasks(task_service_connect.TaskService):  # type: ignore[misc]  # the generated classes are untyped
    def __init__(self, database: Database) -> None:
        self._database = database

    async def deploy_task(
        self, request: task_service_pb2.DeployTaskRequest, _: Context
    ) -> task_service_pb2.DeployTaskResponse:
        with self._database.transaction() as connection:
            task_table.deploy(connection, request, now())
        return task_service_pb2.DeployTaskResponse()

    async def get_task_details(
        self, request: task_service_pb2.GetTaskDetailsRequest, _: Context
    ) -> task_service_pb2.GetTaskDetailsResponse:
        task = request.task_id
        with self._database.reading() as connection:
            details = task_table.find(connection, task)
        if details is None:
            where = f"{task.project}/{task.domain}"
            raise Refused("not_found", f"task `{task.name}` version `{task.version}` is not in `{where}`")
        return task_service_pb2.GetTaskDetailsResponse(details=details)

    async def list_tasks(
        self, request: task_service_pb2.ListTasksRequest, _: Context
    ) -> task_service_pb2.ListTasksResponse:
        with self._database.reading() as connection:
            return task_table.list_latest(connection, request)

    async def list_versions(
        self, request: task_service_pb2.ListVersionsRequest, _: Context
    ) -> task_service_pb2.ListVersionsResponse:
        with self._database.reading() as connection:
            return task_table.list_versions(connection, request)


class Triggers(trigger_service_connect.TriggerService):  # type: ignore[misc]  # the generated classes are untyped
    def __init__(self, database: Database) -> None:
        self._database = database

    async def deploy_trigger(
        self, request: trigger_service_pb2.DeployTriggerRequest, _: Context
    ) -> trigger_service_pb2.DeployTriggerResponse:
        with self._database.transaction() as connection:
            trigger_table.save(connection, request.name, request.spec, request.automation_spec, now())
            return trigger_service_pb2.DeployTriggerResponse(trigger=trigger_table.find(connection, request.name))

    async def get_trigger_details(
        self, request: trigger_service_pb2.GetTriggerDetailsRequest, _: Context
    ) -> trigger_service_pb2.GetTriggerDetailsResponse:
        with self._database.reading() as connection:
            details = trigger_table.find(connection, request.name)
        if details is None:
            raise Refused("not_found", f"task `{request.name.task_name}` has no trigger `{request.name.name}`")
        return trigger_service_pb2.GetTriggerDetailsResponse(trigger=details)

    async def list_triggers(
        self, request: trigger_service_pb2.ListTriggersRequest, _: Context
    ) -> trigger_service_pb2.ListTriggersResponse:
        with self._database.reading() as connection:
            return trigger_table.list_page(connection, request)

    async def update_triggers(
        self, request: trigger_service_pb2.UpdateTriggersRequest, _: Context
    ) -> trigger_service_pb2.UpdateTriggersResponse:
        with self._database.transaction() as connection:
            trigger_table.set_active(connection, request.names, request.active, now())
        return trigger_service_pb2.UpdateTriggersResponse()

    async def delete_triggers(
        self, request: trigger_service_pb2.DeleteTriggersRequest, _: Context
    ) -> trigger_service_pb2.DeleteTriggersResponse:
        with self._database.transaction() as connection:
            trigger_table.delete(connection, request.names, now())
        return trigger_service_pb2.DeleteTriggersResponse()


class DataProxy(dataproxy_service_connect.DataProxyService):  # type: ignore[misc]  # the generated classes are untyped
    """Uploads only: there are no runs here, so no run's data."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_upload_location(
        self, request: dataproxy_service_pb2.CreateUploadLocationRequest, ctx: Context
    ) -> dataproxy_service_pb2.CreateUploadLocationResponse:
        folder = uploads.folder_of(self._database.folder)
        granted = uploads.grant(request, folder)
        response = dataproxy_service_pb2.CreateUploadLocationResponse(
            # The host under which the client reached this server is one under which it can reach it again.
            signed_url=granted.url(f"http://{ctx.request_headers().get('host', '')}", self._database.secret),
            native_url=f"file://{folder / granted.path}",
        )
        response.expires_at.FromSeconds(granted.expires)
        return response


class Clusters(cluster_connect.ClusterService):  # type: ignore[misc]  # the generated classes are untyped
    async def select_cluster(
        self, request: cluster_pb2.SelectClusterRequest, _: Context
    ) -> cluster_pb2.SelectClusterResponse:
        """This server, for everything but inputs of triggers: clients then keep those in the trigger itself."""
        if request.operation == cluster_pb2.SelectClusterRequest.OPERATION_UPLOAD_TRIGGER:
            raise Refused("unimplemented", "inputs of triggers are kept in the triggers")
        return cluster_pb2.SelectClusterResponse()


class Projects(project_service_connect.ProjectService):  # type: ignore[misc]  # the generated classes are untyped
    """A project is there as soon as something is deployed to it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_project(
        self, request: project_service_pb2.GetProjectRequest, _: Context
    ) -> project_service_pb2.GetProjectResponse:
        if request.id not in self._names():
            raise Refused("not_found", f"there is no project `{request.id}`")
        return project_service_pb2.GetProjectResponse(project=_project(request.id))

    async def list_projects(
        self, request: project_service_pb2.ListProjectsRequest, _: Context
    ) -> project_service_pb2.ListProjectsResponse:
        """All of them on one page. None is ever archived."""
        archived = f"eq(state, {project_service_pb2.PROJECT_STATE_ARCHIVED})"
        names = () if archived in request.filters else self._names()
        found = project_service_pb2.Projects(projects=[_project(name) for name in names])
        return project_service_pb2.ListProjectsResponse(projects=found)

    def _names(self) -> list[str]:
        with self._database.reading() as connection:
            return sorted({_DEFAULT_PROJECT, *task_table.projects(connection)})


class Identity(identity_connect.IdentityService):  # type: ignore[misc]  # the generated classes are untyped
    async def user_info(self, request: identity_pb2.UserInfoRequest, _: Context) -> identity_pb2.UserInfoResponse:
        """Nobody logs in here: whoever reaches the server is its user."""
        del request
        return identity_pb2.UserInfoResponse(subject="local", name="local user")


class _Guard:
    """Checks each request by the rules of its proto, and words refusals in Connect's terms."""

    async def intercept_unary(
        self, call_next: Callable[[_Request, Context], Awaitable[_Response]], request: _Request, ctx: Context
    ) -> _Response:
        try:
            rules.check(request)
            return await call_next(request, ctx)
        except Refused as refused:
            raise ConnectError(Code(refused.code), refused.message) from refused


def _project(name: str) -> project_service_pb2.Project:
    domains = [project_service_pb2.Domain(id=domain, name=domain) for domain in _DOMAINS]
    return project_service_pb2.Project(
        id=name, name=name, domains=domains, state=project_service_pb2.PROJECT_STATE_ACTIVE
    )


def applications(
    database: Database, interceptors: Iterable[Interceptor] = ()
) -> dict[str, ConnectASGIApplication[object]]:
    """The ASGI application of each service, by its path. `interceptors` see every request first."""
    around = (*interceptors, _Guard())
    services: tuple[ConnectASGIApplication[object], ...] = (
        task_service_connect.TaskServiceASGIApplication(Tasks(database), interceptors=around),
        trigger_service_connect.TriggerServiceASGIApplication(Triggers(database), interceptors=around),
        dataproxy_service_connect.DataProxyServiceASGIApplication(DataProxy(database), interceptors=around),
        cluster_connect.ClusterServiceASGIApplication(Clusters(), interceptors=around),
        project_service_connect.ProjectServiceASGIApplication(Projects(database), interceptors=around),
        identity_connect.IdentityServiceASGIApplication(Identity(), interceptors=around),
    )
    return {service.path: service for service in services}
