"""The gateway's settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from gannet_service.config import ServiceConfig


class GatewayConfig(ServiceConfig):
    """See docs/configuration.md, which is made from this class."""

    model_config = SettingsConfigDict(env_prefix="GANNET_GATEWAY_", extra="forbid", frozen=True, validate_default=True)
    service: ClassVar[str] = "gateway"
    well_known: ClassVar[Mapping[str, str]] = {**ServiceConfig.well_known, "qdrant_url": "QDRANT_URL"}

    data_dir: Path = Field(Path("gannet-data"), description="Directory of the ledger and of the documents' texts.")
    ledger_url: SecretStr | None = Field(
        None,
        description="PostgreSQL ledger, `postgresql://user:password@host:port/database`, which several gateways may share; "
        "their `data_dir` must be shared too. Unset means SQLite in `data_dir`, for one gateway.",
    )
    ledger_connections_max: int = Field(4, ge=1, le=100, description="Connections to the ledger at once.")
    ledger_timeout_s: float = Field(
        10.0, gt=0, le=60, description="Most time to wait for a connection to the ledger, and for a statement, seconds."
    )
    blob_url: str | None = Field(
        None,
        pattern="^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$",
        description="S3-compatible bucket for the documents' texts and uploads, `s3://bucket/prefix`. Unset means `data_dir`.",
    )
    blob_endpoint: str = Field(
        "",
        pattern="^(https?://.+)?$",
        description="The bucket's server, `https://host:port`; empty means Amazon's for the region.",
    )
    blob_region: str = Field("us-east-1", description="The bucket's region.")
    blob_access_key_id_file: Path | None = Field(
        None,
        description="File with the access key id; without it and the next one the AWS SDK's usual sources are asked "
        "(`AWS_*` variables, the instance's role).",
    )
    blob_secret_access_key_file: Path | None = Field(None, description="File with the secret access key.")
    blob_timeout_s: float = Field(
        30.0, gt=0, le=600, description="Most time for one request to the bucket with its retries, seconds."
    )
    blob_part_bytes: int = Field(
        8 << 20,
        ge=5 << 20,
        le=1 << 30,
        description="What is sent at once of an upload to the bucket, bytes: each stream may hold two in memory, a bucket "
        "takes 10,000 an upload.",
    )
    embedder_target: str = Field(
        "127.0.0.1:7701", description="gRPC target of the embedder: `host:port`, or `dns:///name:port` for several."
    )
    reranker_target: str = Field("127.0.0.1:7702", description="gRPC target of the reranker.")
    generator_target: str = Field("127.0.0.1:7703", description="gRPC target of the generator.")
    qdrant_url: str = Field(
        "http://127.0.0.1:7710",
        description="Qdrant's gRPC endpoint, `http://host:port` or `https://host:port`. Also read from `QDRANT_URL`.",
    )
    qdrant_api_key: SecretStr | None = Field(None, description="Qdrant's API key, if it needs one.")
    qdrant_replication_factor: int = Field(1, ge=1, le=10, description="Copies of every point in a Qdrant cluster.")

    auth: bool = Field(True, description="Demand an API key. Without it every caller is the bootstrap tenant.")
    bootstrap_api_key_file: Path | None = Field(
        None, description="File with an API key that is made known at start, for the bootstrap tenant."
    )
    bootstrap_tenant: str = Field(
        "default", pattern="^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", description="Tenant of the bootstrap key."
    )
    api_key_cache_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="Time for which a key that was looked up is trusted, seconds: a revoked key works that much longer.",
    )

    oidc_issuer: str = Field(
        "",
        pattern="^(https://.+|http://(127\\.0\\.0\\.1|localhost|\\[::1\\])([:/].*)?)?$",
        description="OpenID Connect issuer whose tokens are accepted beside API keys, exactly as its tokens name it; empty means none.",
    )
    oidc_audience: str = Field(
        "", description="Audience (`aud`) that tokens must name; needed where there is an issuer."
    )
    oidc_jwks_url: str = Field("", description="Where the issuer's keys are; empty asks its discovery document.")
    oidc_jwks_file: Path | None = Field(None, description="File with the issuer's keys instead (a JWK set).")
    oidc_leeway_s: float = Field(30.0, ge=0, le=300, description="By how much clocks may differ, seconds.")
    oidc_refresh_s: float = Field(
        3600.0, ge=10, le=86_400, description="Age at which the issuer's keys are fetched again."
    )
    oidc_refresh_pause_s: float = Field(
        10.0, ge=1, le=3600, description="Least time between two fetches, whatever keys tokens name, seconds."
    )
    oidc_timeout_s: float = Field(5.0, gt=0, le=60, description="Most time for a fetch, seconds.")
    oidc_tenant: str = Field("", description="Tenant of every token; empty reads it from `oidc_tenant_claim`.")
    oidc_tenant_claim: str = Field("tenant", min_length=1, description="Claim of the tenant; dots lead into objects.")
    oidc_user_claim: str = Field("sub", min_length=1, description="Claim of the user, likewise.")
    oidc_groups_claim: str = Field("groups", min_length=1, description="Claim of the user's groups, likewise.")
    oidc_scopes_claim: str = Field("scope", min_length=1, description="Claim of the scopes, likewise.")
    oidc_scopes_default: str = Field(
        "answer collections.read documents.read search", description="Scopes of tokens without that claim."
    )
    oidc_scopes_allowed: str = Field(
        "answer collections.read collections.write documents.read documents.write search",
        description="Scopes that tokens can have at all.",
    )

    tenant_queries_per_s: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="Searches and answers a second of a tenant without a limit of its own; 0 is no limit.",
    )
    tenant_documents_per_s: float = Field(0.0, ge=0, le=1e6, description="Uploaded documents a second, likewise.")
    tenant_tokens_per_s: float = Field(
        0.0, ge=0, le=1e9, description="Tokens a second that its uploads bring and generators read for it, likewise."
    )
    tenant_documents_max: int = Field(0, ge=0, description="Most live documents, likewise.")
    tenant_bytes_max: int = Field(0, ge=0, description="Most bytes of live documents' texts, likewise.")
    quota_burst_s: float = Field(
        10.0, gt=0, le=3600, description="Seconds' worth of a rate that may be used at once after a pause."
    )
    searches_in_work_max: int = Field(
        64, ge=1, le=10_000, description="Searches in work at once; more wait, and tenants take turns by their weights."
    )
    batch_in_flight: int = Field(2, ge=1, le=1024, description="Requests under way before further queries share one.")
    batch_wait_s: float = Field(0.025, ge=0, le=1, description="Longest such wait of a query, seconds.")
    answers_in_work_max: int = Field(256, ge=1, le=10_000, description="Answers in work at once, likewise.")
    tenant_waiting_max: int = Field(
        256, ge=1, le=10_000, description="Searches, and answers, of one tenant that wait; more are refused."
    )

    chunk_size_default: int = Field(
        1000, ge=100, le=20_000, description="Most characters of a passage, for collections that do not say."
    )
    chunk_overlap_default: int = Field(
        150, ge=0, le=10_000, description="Most characters that a passage repeats of the one before it, likewise."
    )
    document_bytes_max: int = Field(32 << 20, ge=1024, le=1 << 30, description="Largest document, bytes.")
    text_bytes_max: int = Field(
        64 << 20, ge=1024, le=1 << 30, description="Longest text that is taken out of a document, bytes of UTF-8."
    )
    unpacked_bytes_max: int = Field(
        256 << 20, ge=1 << 20, le=1 << 32, description="Most bytes that a packed document (.docx) may unpack to."
    )
    parse_workers_max: int = Field(
        2, ge=1, le=64, description="Processes that read .pdf, .docx and large .html, .jsonl and .csv, one file each."
    )
    parse_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="Most time for taking the text out of one document, seconds."
    )
    parse_memory_bytes_max: int = Field(
        1 << 30, ge=192 << 20, le=1 << 36, description="Most memory (address space) of each such process, bytes."
    )
    documents_in_work_max: int = Field(
        32, ge=1, le=256, description="Documents of one upload stream that are processed at once."
    )
    ingest_timeout_s: float = Field(600.0, ge=1, le=86_400, description="Most time for one document, seconds.")
    jobs_in_work_max: int = Field(
        128, ge=1, le=1024, description="Accepted documents that this gateway works on at once."
    )
    jobs_bytes_in_work_max: int = Field(
        64 << 20,
        ge=1024,
        le=1 << 36,
        description="Bytes of uploads that it works on at once; a larger one is worked on alone.",
    )
    jobs_queued_max: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Accepted documents of a tenant that wait or are in work; more are refused with RESOURCE_EXHAUSTED.",
    )
    job_attempts_max: int = Field(
        10, ge=1, le=1000, description="Times that the work on a document is begun before it counts as failed."
    )
    job_pause_initial_s: float = Field(
        0.5,
        gt=0,
        le=3600,
        description="Pause after a first failed attempt, seconds; each further one is twice as long.",
    )
    job_pause_max_s: float = Field(60.0, gt=0, le=86_400, description="Longest such pause, seconds.")
    job_poll_s: float = Field(
        1.0,
        gt=0,
        le=60,
        description="How often the ledger is asked for documents that other gateways accepted, or gave up, seconds.",
    )
    operation_retention_s: float = Field(
        604_800.0, ge=60, le=31_536_000, description="Time for which an operation that has ended is kept, seconds."
    )
    request_id_retention_s: float = Field(
        86_400.0, ge=60, le=2_592_000, description="Time for which a request id is remembered, seconds."
    )
    webhook_networks: list[IPvAnyNetwork] = Field(
        [],
        max_length=100,
        description="Networks that are not public and that webhooks may lead to all the same, a JSON list, e.g. 10.0.0.0/8.",
    )
    webhook_timeout_s: float = Field(10.0, gt=0, le=60, description="Most time for one post to a webhook, seconds.")
    webhook_retry_s: float = Field(
        86_400.0, ge=0, le=2_592_000, description="Age at which an event is not tried again, seconds."
    )
    webhook_pause_initial_s: float = Field(
        5.0, gt=0, le=3600, description="Pause after its first failed post, seconds."
    )
    webhook_pause_max_s: float = Field(
        3600.0, gt=0, le=86_400, description="Longest pause, seconds; each is twice as long."
    )
    webhook_poll_s: float = Field(1.0, gt=0, le=60, description="How often events to deliver are looked for, seconds.")
    webhook_in_work_max: int = Field(64, ge=1, le=1000, description="Posts to webhooks at once.")
    webhook_receiver_in_work_max: int = Field(4, ge=1, le=1000, description="Those to one scheme, host and port.")
    webhook_retention_s: float = Field(
        604_800.0, ge=60, le=31_536_000, description="Time for which a delivery that has ended is kept, seconds."
    )
    source_roots: list[str] = Field(
        [],
        max_length=100,
        description='Directories that sources may read, a JSON list; "{tenant}" in one stands for the tenant\'s id. None means that no '
        "source may name a directory.",
    )
    source_urls: list[str] = Field(
        [], max_length=100, description="Addresses that sources may fetch, and all below them, likewise."
    )
    source_poll_s: float = Field(
        10.0, gt=0, le=3600, description="How often this gateway looks for a source that is due, seconds."
    )
    source_timeout_s: float = Field(60.0, gt=0, le=3600, description="Most time for fetching an address, seconds.")
    source_documents_in_work_max: int = Field(
        4, ge=1, le=64, description="Documents of a source that are processed at once."
    )
    publish_interval_ms: float = Field(
        10.0,
        ge=0,
        le=60_000,
        description="Least time between two publishes of a collection, which all waiting documents share.",
    )
    publish_documents_max: int = Field(256, ge=1, le=1000, description="Most documents that one publish shows.")
    lease_s: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="Time after which other gateways take over what one that is gone was writing, seconds. The gateways' clocks must "
        "agree to a fraction of it.",
    )
    snapshot_retention_s: float = Field(
        600.0, ge=0, le=2_592_000, description="Time for which a replaced generation can still be read, seconds."
    )
    collect_delay_s: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Time between giving a generation up and deleting its passages, seconds, and the most that a search may take.",
    )
    revisions_kept: int = Field(
        10, ge=0, le=1000, description="Earlier revisions of a document whose texts are kept, to roll back to."
    )

    query_bytes_max: int = Field(8192, ge=64, le=1 << 20, description="Longest query, bytes of UTF-8.")
    filter_bytes_max: int = Field(2048, ge=64, le=1 << 16, description="Longest metadata filter, bytes of UTF-8.")
    top_k_max: int = Field(1000, ge=1, le=10_000, description="Most passages that a search returns.")
    rrf_k: int = Field(60, ge=1, le=1000, description="Reciprocal rank fusion's k, for searches that do not say.")
    dense_weight: float = Field(1.0, gt=0, le=100, description="Weight of the dense ranking in the fusion, likewise.")
    sparse_weight: float = Field(1.0, gt=0, le=100, description="Weight of the BM25 ranking in the fusion, likewise.")
    rerank_default: bool = Field(True, description="Rerank where neither the call nor its collection says.")
    rerank_depth: int = Field(
        20, ge=1, le=200, description="Candidates that the reranker reads, for searches that do not say."
    )
    rerank_weight: float = Field(
        0.3, gt=0, le=100, description="Weight of the reranker's z-score beside the first stage's, likewise."
    )
    expand_budget: float = Field(
        0.4,
        gt=0,
        le=1,
        description="Share of the time left that a generator may take to phrase a query in other ways before the search goes on without.",
    )
    embed_budget: float = Field(
        0.4,
        gt=0,
        le=1,
        description="Share of the time left that the embedder may take before a hybrid search goes on by BM25 alone.",
    )
    search_budget: float = Field(
        0.8, gt=0, le=1, description="Share of the time left that the vector store may take before it counts as down."
    )
    rerank_budget: float = Field(
        0.5, gt=0, le=1, description="Share of the time left that the reranker may take before it is skipped."
    )

    expand_timeout_s: float = Field(
        5.0, gt=0, le=60, description="Most time for a generator to phrase a query in other ways, seconds."
    )
    embed_timeout_s: float = Field(5.0, gt=0, le=60, description="Most time for a query's vectors, seconds.")
    search_timeout_s: float = Field(
        10.0, gt=0, le=60, description="Most time for one request to the vector store, seconds."
    )
    rerank_timeout_s: float = Field(5.0, gt=0, le=60, description="Most time for the reranker, seconds.")
    generate_timeout_s: float = Field(60.0, gt=0, le=600, description="Most time for the generator, seconds.")
    heartbeat_s: float = Field(
        2.0, gt=0, le=60, description="Longest silence in an answer stream before a heartbeat, seconds."
    )

    generators: tuple[str, ...] = Field(
        (),
        max_length=4,
        description="Generators that answer where neither the request nor its collection names any, a JSON list, tried in this order while "
        "nothing has been said. Empty means the generator server's `default_generator`.",
    )
    generator_failures_max: int = Field(
        3, ge=1, le=1000, description="Failures in a row after which a generator is left out for a while."
    )
    generator_pause_s: float = Field(10.0, gt=0, le=600, description="How long it is left out then, seconds.")
    prompt_tokens_max: int = Field(
        6000,
        ge=500,
        le=1_000_000,
        description="Most tokens of a prompt, where the generator does not take less; passages that do not fit are left out.",
    )
    rewrite_timeout_s: float = Field(
        5.0,
        gt=0,
        le=60,
        description="Most time for a model to make a question of a conversation stand alone, seconds; then a rule does it.",
    )
    verify_timeout_s: float = Field(
        5.0, gt=0, le=60, description="Most time for verifying an answer's sentences, seconds; then it goes without."
    )
    resume_grace_s: float = Field(
        20.0,
        ge=0,
        le=600,
        description="How long an answer that can be resumed is made on while nobody reads it, seconds; its deadline ends it anyway.",
    )
    resume_keep_s: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="How long its events are kept after its end, seconds; in Redis where there is one.",
    )
    resumable_answers_max: int = Field(
        256, ge=1, le=100_000, description="Most answers that can be resumed at once; those that ended make room."
    )
    resumable_bytes_max: int = Field(
        64 << 20, ge=1 << 20, le=1 << 36, description="Most bytes of their events in memory, likewise."
    )

    conversations_max: int = Field(
        1000, ge=1, le=1_000_000, description="Most conversations of one user in a collection."
    )
    conversation_turns_max: int = Field(200, ge=1, le=10_000, description="Most turns of a conversation.")
    conversation_bytes_max: int = Field(
        1 << 20, ge=1024, le=1 << 26, description="Most bytes of a conversation's questions and answers together."
    )
    feedback_max: int = Field(100_000, ge=1, le=10_000_000, description="Most entries of feedback in a collection.")
    prompt_versions_max: int = Field(1000, ge=1, le=100_000, description="Most versions of prompts in a collection.")

    cache_redis_url: SecretStr | None = Field(
        None,
        description="Redis for the cache that gateways share: `redis://host:port/0`, `rediss://` for TLS. Without it each caches alone.",
    )
    cache_redis_password_file: Path | None = Field(None, description="File with Redis' password.")
    cache_redis_timeout_s: float = Field(
        0.02, gt=0, le=1, description="Most time for one request to Redis before the gateway goes on without, seconds."
    )
    cache_redis_failures_max: int = Field(
        5, ge=1, le=1000, description="Failures in a row after which Redis is not asked for a while."
    )
    cache_redis_pause_s: float = Field(2.0, gt=0, le=300, description="How long it is not asked then, seconds.")
    cache_ttl_s: float = Field(86_400.0, gt=0, le=2_592_000, description="Longest life of a cached value, seconds.")
    cache_embeddings_bytes_max: int = Field(
        32 << 20, ge=0, le=1 << 36, description="Memory for queries' vectors, bytes; 0 keeps none in memory."
    )
    cache_results_bytes_max: int = Field(
        64 << 20, ge=0, le=1 << 36, description="Memory for searches' replies, bytes; 0 keeps none in memory."
    )
    cache_results: bool = Field(
        True,
        description="Cache searches' replies; their keys hold the collection's generation, so no reply outlives a change.",
    )
    cache_answers: bool = Field(
        True,
        description="Cache whole answers that went well and would come out the same again; their keys hold all that they depend on.",
    )
    cache_answers_bytes_max: int = Field(
        32 << 20, ge=0, le=1 << 36, description="Memory for answers, bytes; 0 keeps none in memory."
    )

    @model_validator(mode="after")
    def _issuer_has_an_audience(self) -> Self:
        if self.oidc_issuer and not self.oidc_audience:
            raise ValueError("oidc_audience is needed where there is an oidc_issuer: tokens for others must not do")
        return self
