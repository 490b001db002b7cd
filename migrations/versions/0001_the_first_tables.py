"""The first tables

Revision 0001, the first, made 2026-11-23 18:04:46.666447.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "compiled_plans",
        sa.Column("hash", sa.String(length=32), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_compiled_plans")),
    )
    op.create_table(
        "idempotency_records",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=300), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_records")),
        sa.UniqueConstraint("owner", "key", name=op.f("uq_idempotency_records_owner_key")),
    )
    op.create_index(op.f("ix_idempotency_records_created_at"), "idempotency_records", ["created_at"], unique=False)
    op.create_table(
        "user_profiles",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(length=150), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=True),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("is_agent", sa.Boolean(), nullable=False),
        sa.Column("totp_secret", sa.String(500), nullable=True),
        sa.Column("totp_last_step", sa.Integer(), nullable=True),
        sa.Column("mfa_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_profiles")),
        sa.UniqueConstraint("username", name=op.f("uq_user_profiles_username")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_profiles.id"], name=op.f("fk_api_keys_user_id_user_profiles"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
    )
    op.create_index(op.f("ix_api_keys_user_id"), "api_keys", ["user_id"], unique=False)
    op.create_table(
        "credentials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_profile_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=150), nullable=False),
        sa.Column("credential_type", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_profile_id"],
            ["user_profiles.id"],
            name=op.f("fk_credentials_user_profile_id_user_profiles"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
    )
    op.create_index(op.f("ix_credentials_user_profile_id"), "credentials", ["user_profile_id"], unique=False)
    op.create_table(
        "workflows",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("slug", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=True),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("error_handler_workflow_id", sa.Integer(), nullable=True),
        sa.Column("input_schema", sa.JSON(), nullable=True),
        sa.Column("output_schema", sa.JSON(), nullable=True),
        sa.Column("max_execution_seconds", sa.Integer(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["error_handler_workflow_id"],
            ["workflows.id"],
            name=op.f("fk_workflows_error_handler_workflow_id_workflows"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["user_profiles.id"], name=op.f("fk_workflows_owner_id_user_profiles"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflows")),
        sa.UniqueConstraint("slug", name=op.f("uq_workflows_slug")),
    )
    op.create_index(op.f("ix_workflows_created_at"), "workflows", ["created_at"], unique=False)
    op.create_index(op.f("ix_workflows_owner_id"), "workflows", ["owner_id"], unique=False)
    op.create_table(
        "component_configs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("component_type", sa.String(length=60), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("secrets", sa.String(20000), nullable=True),
        sa.Column("trigger_key", sa.String(length=255), nullable=True),
        sa.Column("system_prompt", sa.Text(), nullable=True),
        sa.Column("model_name", sa.String(length=200), nullable=True),
        sa.Column("llm_credential_id", sa.Integer(), nullable=True),
        sa.Column("credential_id", sa.Integer(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credentials.id"],
            name=op.f("fk_component_configs_credential_id_credentials"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["llm_credential_id"],
            ["credentials.id"],
            name=op.f("fk_component_configs_llm_credential_id_credentials"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_component_configs")),
    )
    op.create_index(op.f("ix_component_configs_component_type"), "component_configs", ["component_type"], unique=False)
    op.create_index(op.f("ix_component_configs_credential_id"), "component_configs", ["credential_id"], unique=False)
    op.create_index(
        op.f("ix_component_configs_llm_credential_id"), "component_configs", ["llm_credential_id"], unique=False
    )
    op.create_index(op.f("ix_component_configs_trigger_key"), "component_configs", ["trigger_key"], unique=False)
    op.create_table(
        "git_credentials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(length=30), nullable=False),
        sa.Column("username", sa.String(length=150), nullable=True),
        sa.Column("access_token", sa.String(2000), nullable=True),
        sa.Column("ssh_private_key", sa.String(20000), nullable=True),
        sa.Column("webhook_secret", sa.String(500), nullable=True),
        sa.ForeignKeyConstraint(
            ["id"], ["credentials.id"], name=op.f("fk_git_credentials_id_credentials"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_git_credentials")),
    )
    op.create_table(
        "llm_credentials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("provider_type", sa.String(length=30), nullable=False),
        sa.Column("api_key", sa.String(2000), nullable=False),
        sa.Column("base_url", sa.String(length=500), nullable=True),
        sa.Column("organization_id", sa.String(length=200), nullable=True),
        sa.Column("custom_headers", sa.String(8000), nullable=True),
        sa.ForeignKeyConstraint(
            ["id"], ["credentials.id"], name=op.f("fk_llm_credentials_id_credentials"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_llm_credentials")),
    )
    op.create_table(
        "telegram_credentials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("bot_token", sa.String(500), nullable=False),
        sa.Column("api_url", sa.String(length=500), nullable=True),
        sa.Column("allowed_user_ids", sa.JSON(), nullable=False),
        sa.Column("mode", sa.String(length=10), nullable=False),
        sa.ForeignKeyConstraint(
            ["id"], ["credentials.id"], name=op.f("fk_telegram_credentials_id_credentials"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_telegram_credentials")),
    )
    op.create_table(
        "tool_credentials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tool_type", sa.String(length=30), nullable=False),
        sa.Column("config", sa.String(20000), nullable=False),
        sa.ForeignKeyConstraint(
            ["id"], ["credentials.id"], name=op.f("fk_tool_credentials_id_credentials"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tool_credentials")),
    )
    op.create_table(
        "workflow_collaborators",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("workflow_id", sa.Integer(), nullable=False),
        sa.Column("user_profile_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("invited_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_profile_id"],
            ["user_profiles.id"],
            name=op.f("fk_workflow_collaborators_user_profile_id_user_profiles"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["workflow_id"],
            ["workflows.id"],
            name=op.f("fk_workflow_collaborators_workflow_id_workflows"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_collaborators")),
        sa.UniqueConstraint(
            "workflow_id", "user_profile_id", name=op.f("uq_workflow_collaborators_workflow_id_user_profile_id")
        ),
    )
    op.create_index(
        op.f("ix_workflow_collaborators_user_profile_id"), "workflow_collaborators", ["user_profile_id"], unique=False
    )
    op.create_table(
        "workflow_edges",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("workflow_id", sa.Integer(), nullable=False),
        sa.Column("source_node_id", sa.String(length=100), nullable=False),
        sa.Column("target_node_id", sa.String(length=100), nullable=False),
        sa.Column("edge_type", sa.String(length=15), nullable=False),
        sa.Column("edge_label", sa.String(length=20), nullable=False),
        sa.Column("condition_value", sa.String(length=100), nullable=True),
        sa.Column("condition_mapping", sa.JSON(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("source_port", sa.String(length=100), nullable=True),
        sa.Column("target_port", sa.String(length=100), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["workflow_id"], ["workflows.id"], name=op.f("fk_workflow_edges_workflow_id_workflows"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_edges")),
    )
    op.create_index(op.f("ix_workflow_edges_workflow_id"), "workflow_edges", ["workflow_id"], unique=False)
    op.create_table(
        "workflow_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("workflow_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("graph", sa.JSON(), nullable=False),
        sa.Column("created_by_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"],
            ["user_profiles.id"],
            name=op.f("fk_workflow_versions_created_by_id_user_profiles"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["workflow_id"],
            ["workflows.id"],
            name=op.f("fk_workflow_versions_workflow_id_workflows"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_versions")),
        sa.UniqueConstraint("workflow_id", "number", name=op.f("uq_workflow_versions_workflow_id_number")),
        sa.UniqueConstraint("workflow_id", "revision", name=op.f("uq_workflow_versions_workflow_id_revision")),
    )
    op.create_table(
        "workflow_executions",
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("workflow_id", sa.Integer(), nullable=False),
        sa.Column("workflow_version_id", sa.Integer(), nullable=True),
        sa.Column("plan_hash", sa.String(length=32), nullable=False),
        sa.Column("trigger_node_id", sa.String(length=100), nullable=False),
        sa.Column("parent_execution_id", sa.String(length=36), nullable=True),
        sa.Column("parent_node_id", sa.String(length=100), nullable=True),
        sa.Column("user_profile_id", sa.Integer(), nullable=True),
        sa.Column("thread_id", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=15), nullable=False),
        sa.Column("trigger", sa.String(length=30), nullable=False),
        sa.Column("trigger_payload", sa.JSON(), nullable=True),
        sa.Column("trigger_output", sa.JSON(), nullable=False),
        sa.Column("final_output", sa.JSON(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_code", sa.String(length=50), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("total_input_tokens", sa.Integer(), nullable=False),
        sa.Column("total_output_tokens", sa.Integer(), nullable=False),
        sa.Column("total_tokens", sa.Integer(), nullable=False),
        sa.Column("total_cost_usd", sa.Numeric(precision=12, scale=6), nullable=False),
        sa.Column("llm_calls", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["parent_execution_id"],
            ["workflow_executions.execution_id"],
            name=op.f("fk_workflow_executions_parent_execution_id_workflow_executions"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["plan_hash"], ["compiled_plans.hash"], name=op.f("fk_workflow_executions_plan_hash_compiled_plans")
        ),
        sa.ForeignKeyConstraint(
            ["user_profile_id"],
            ["user_profiles.id"],
            name=op.f("fk_workflow_executions_user_profile_id_user_profiles"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["workflow_id"],
            ["workflows.id"],
            name=op.f("fk_workflow_executions_workflow_id_workflows"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["workflow_version_id"],
            ["workflow_versions.id"],
            name=op.f("fk_workflow_executions_workflow_version_id_workflow_versions"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_workflow_executions")),
    )
    op.create_index(op.f("ix_workflow_executions_created_at"), "workflow_executions", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_workflow_executions_parent_execution_id"), "workflow_executions", ["parent_execution_id"], unique=False
    )
    op.create_index(
        "ix_workflow_executions_status_created_at", "workflow_executions", ["status", "created_at"], unique=False
    )
    op.create_index(
        "ix_workflow_executions_workflow_id_created_at",
        "workflow_executions",
        ["workflow_id", "created_at"],
        unique=False,
    )
    op.create_table(
        "workflow_nodes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("workflow_id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.String(length=100), nullable=False),
        sa.Column("label", sa.String(length=255), nullable=True),
        sa.Column("component_type", sa.String(length=60), nullable=False),
        sa.Column("component_config_id", sa.Integer(), nullable=False),
        sa.Column("subworkflow_id", sa.Integer(), nullable=True),
        sa.Column("code_block_id", sa.Integer(), nullable=True),
        sa.Column("is_entry_point", sa.Boolean(), nullable=False),
        sa.Column("interrupt_before", sa.Boolean(), nullable=False),
        sa.Column("interrupt_after", sa.Boolean(), nullable=False),
        sa.Column("position_x", sa.Integer(), nullable=False),
        sa.Column("position_y", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["component_config_id"],
            ["component_configs.id"],
            name=op.f("fk_workflow_nodes_component_config_id_component_configs"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["subworkflow_id"],
            ["workflows.id"],
            name=op.f("fk_workflow_nodes_subworkflow_id_workflows"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["workflow_id"], ["workflows.id"], name=op.f("fk_workflow_nodes_workflow_id_workflows"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_nodes")),
        sa.UniqueConstraint("component_config_id", name=op.f("uq_workflow_nodes_component_config_id")),
        sa.UniqueConstraint("workflow_id", "node_id", name=op.f("uq_workflow_nodes_workflow_id_node_id")),
    )
    op.create_index(op.f("ix_workflow_nodes_subworkflow_id"), "workflow_nodes", ["subworkflow_id"], unique=False)
    op.create_table(
        "blobs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["workflow_executions.execution_id"],
            name=op.f("fk_blobs_execution_id_workflow_executions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blobs")),
    )
    op.create_index(op.f("ix_blobs_execution_id"), "blobs", ["execution_id"], unique=False)
    op.create_table(
        "execution_events",
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("events", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["workflow_executions.execution_id"],
            name=op.f("fk_execution_events_execution_id_workflow_executions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_execution_events")),
    )
    op.create_table(
        "execution_logs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("node_id", sa.String(length=100), nullable=False),
        sa.Column("component_type", sa.String(length=60), nullable=False),
        sa.Column("scope", sa.String(length=500), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=15), nullable=False),
        sa.Column("route", sa.String(length=100), nullable=True),
        sa.Column("input", sa.Text(), nullable=True),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("error_code", sa.String(length=50), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("queued_ms", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["workflow_executions.execution_id"],
            name=op.f("fk_execution_logs_execution_id_workflow_executions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_execution_logs")),
        sa.UniqueConstraint(
            "execution_id",
            "node_id",
            "scope",
            "attempt",
            name=op.f("uq_execution_logs_execution_id_node_id_scope_attempt"),
        ),
    )
    op.create_table(
        "pending_tasks",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("step", sa.String(length=600), nullable=False),
        sa.Column("node_id", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["workflow_executions.execution_id"],
            name=op.f("fk_pending_tasks_execution_id_workflow_executions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_pending_tasks")),
        sa.UniqueConstraint("execution_id", "step", "kind", name=op.f("uq_pending_tasks_execution_id_step_kind")),
    )


def downgrade() -> None:
    op.drop_table("pending_tasks")
    op.drop_table("execution_logs")
    op.drop_table("execution_events")
    op.drop_table("blobs")
    op.drop_table("workflow_nodes")
    op.drop_table("workflow_executions")
    op.drop_table("workflow_versions")
    op.drop_table("workflow_edges")
    op.drop_table("workflow_collaborators")
    op.drop_table("tool_credentials")
    op.drop_table("telegram_credentials")
    op.drop_table("llm_credentials")
    op.drop_table("git_credentials")
    op.drop_table("component_configs")
    op.drop_table("workflows")
    op.drop_table("credentials")
    op.drop_table("api_keys")
    op.drop_table("user_profiles")
    op.drop_table("idempotency_records")
    op.drop_table("compiled_plans")
