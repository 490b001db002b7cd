"""Rows, and the queries that mean something."""

from pipelit.models.credential import (
    BaseCredential,
    GitCredential,
    LLMProviderCredential,
    TelegramCredential,
    ToolCredential,
)
from pipelit.models.execution import (
    Blob,
    CompiledPlan,
    ExecutionEvents,
    ExecutionLog,
    PendingTask,
    PendingTaskApprover,
    StepCheckpoint,
    WorkflowExecution,
)
from pipelit.models.idempotency import IdempotencyRecord
from pipelit.models.node import ComponentConfig, WorkflowEdge, WorkflowNode
from pipelit.models.types import Base
from pipelit.models.user import APIKey, UserProfile
from pipelit.models.workflow import Workflow, WorkflowCollaborator, WorkflowVersion

__all__ = [
    "APIKey",
    "Base",
    "BaseCredential",
    "Blob",
    "CompiledPlan",
    "ComponentConfig",
    "ExecutionEvents",
    "ExecutionLog",
    "GitCredential",
    "IdempotencyRecord",
    "LLMProviderCredential",
    "PendingTask",
    "PendingTaskApprover",
    "StepCheckpoint",
    "TelegramCredential",
    "ToolCredential",
    "UserProfile",
    "Workflow",
    "WorkflowCollaborator",
    "WorkflowEdge",
    "WorkflowExecution",
    "WorkflowNode",
    "WorkflowVersion",
]
