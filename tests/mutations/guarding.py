"""The deliberate breaks of what callers may do, read and use."""

from mutation import GATEWAY, Mutation, one

TENANTS = f"{GATEWAY}/tenants"
UNIT = "tests/unit/gateway/tenants"
AUTH = "tests/unit/gateway/test_auth.py"
SCOPES = f"{UNIT}/test_scopes.py"
SERVICER = f"{UNIT}/test_tenant_servicer.py"
OIDC = f"{UNIT}/test_oidc.py"
GATE = f"{UNIT}/test_gate.py"
QUOTAS = f"{UNIT}/test_quotas.py"
ACCESS = "tests/unit/gateway/test_document_access.py"

GUARDING: tuple[Mutation, ...] = (
    one(
        "a method without a scope is denied",
        SCOPES,
        f"{TENANTS}/scopes.py",
        "    if scope is None:",
        "    if scope is None and False:",
    ),
    one(
        "every method has a scope", SCOPES, f"{TENANTS}/scopes.py", '        "ListChunks": Scope.DOCUMENTS_READ,\n', ""
    ),
    one("a missing scope refuses", SCOPES, f"{TENANTS}/scopes.py", "if scope not in principal.scopes:", "if False:"),
    one(
        "nobody gives a scope that they lack",
        SERVICER,
        f"{TENANTS}/servicer.py",
        "        demand(Scope(scope), principal)\n",
        "        del scope\n",
    ),
    one(
        "nobody makes a key for somebody else",
        SERVICER,
        f"{TENANTS}/servicer.py",
        "    if foreign and ",
        "    if False and ",
    ),
    one(
        "another tenant is the operators'",
        SERVICER,
        f"{TENANTS}/servicer.py",
        "    if tenant != principal.tenant:",
        "    if False:",
    ),
    one("a key expires", AUTH, f"{GATEWAY}/auth.py", "if not key.is_valid(self._clock()):", "if False:"),
    one("a revoked key lets nobody in", AUTH, f"{GATEWAY}/auth.py", "if key.revoked_at_s is not None:", "if False:"),
    one("a disabled tenant is refused", AUTH, f"{GATEWAY}/auth.py", "        if tenant.disabled:", "        if False:"),
    one(
        "acting for a user takes a scope", AUTH, f"{TENANTS}/identities.py", "    demand(Scope.ACT_AS, principal)\n", ""
    ),
    one(
        "who acts for a user is no more than the user",
        AUTH,
        f"{TENANTS}/identities.py",
        "scopes=principal.scopes - NOT_FOR_USERS",
        "scopes=principal.scopes",
    ),
    one(
        "tokens are signed by RS256 or ES256",
        OIDC,
        f"{TENANTS}/oidc.py",
        "if algorithm not in ALGORITHMS:",
        "if False:",
    ),
    one("a token is for us", OIDC, f"{TENANTS}/oidc.py", "audience=self._audience", "audience=None"),
    one("a token is of the issuer", OIDC, f"{TENANTS}/oidc.py", "                issuer=self._issuer,\n", ""),
    one(
        "a token goes not beyond what is allowed", OIDC, f"{TENANTS}/oidc.py", "scopes & names.scopes_allowed", "scopes"
    ),
    one("keys are fetched at a bounded rate", OIDC, f"{TENANTS}/jwks.py", "< self._pause_s:", "< 0:"),
    one(
        "another issuer's document is none", OIDC, f"{TENANTS}/jwks.py", 'if said.get("issuer") != issuer:', "if False:"
    ),
    one("a weak key is none", OIDC, f"{TENANTS}/jwks.py", ">= RSA_BITS_MIN", ">= 0"),
    one(
        "tenants take turns",
        GATE,
        f"{TENANTS}/gate.py",
        "(max(lane.tag, self._now), lane.waiting[0][0])",
        "lane.waiting[0][0]",
    ),
    one(
        "a place that nobody took is given on",
        GATE,
        f"{TENANTS}/gate.py",
        "                self.leave()\n",
        "                pass\n",
    ),
    one("few calls of a tenant wait", GATE, f"{TENANTS}/gate.py", ">= self._waiting_max", "> 10**9"),
    one(
        "what is used up is refused",
        QUOTAS,
        f"{TENANTS}/buckets.py",
        "        if not forced and level < needed:",
        "        if False:",
    ),
    one(
        "a bucket holds no more than a burst",
        QUOTAS,
        f"{TENANTS}/buckets.py",
        "level = min(rate.capacity, level + ",
        "level = (level + ",
    ),
    one("gateways share one bucket", QUOTAS, f"{TENANTS}/buckets.py", "        if reply is None:", "        if True:"),
    one(
        "a hidden document does not exist",
        ACCESS,
        f"{GATEWAY}/documents/access.py",
        "return bool(newest) and ",
        "return False and ",
    ),
    one(
        "a list leaves out what is hidden",
        ACCESS,
        f"{GATEWAY}/ledger/ledger.py",
        "    if identities is None:\n        return []",
        "    if True:\n        return []",
    ),
    one(
        "a rollback gives no access back",
        ACCESS,
        f"{GATEWAY}/documents/ingest.py",
        "claim.live.readers if claim.live else old.readers",
        "old.readers",
    ),
    one(
        "other readers are another document",
        ACCESS,
        f"{GATEWAY}/documents/ingest.py",
        "[*stored, upload.readers] if upload.readers else stored",
        "stored",
    ),
    one(
        "readers are in the one filter",
        "tests/unit/gateway/test_filter.py",
        f"{GATEWAY}/vectors/visible.py",
        "any=[EVERYONE, *snapshot.identities]",
        'any=[EVERYONE, "user:annn", *snapshot.identities]',
    ),
    one(
        "a search is the caller's",
        "tests/unit/gateway/test_search.py",
        f"{GATEWAY}/search/query.py",
        "identities=call.identities()",
        'identities=("user:ann", "user:bob")',
    ),
)
