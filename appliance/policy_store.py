"""The policy in force: judges what the catalog keeps, and gives it to whoever decides by it.

A text that does not parse with this program's rules is not in force, whoever stored it: the default
policy is, for a tenant's overlay the policy without it. That is said in `ActivePolicy.failures`,
never raised: what moves where changes speed, not what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import trio
from blake3 import blake3

from appliance.catalog.policies import load_active
from tiers.errors import PolicyFault, PolicyInvalid
from tiers.overlay import parse_overlay
from tiers.policy import default_policy
from tiers.policy_file import parse_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.catalog.engine import Catalog
    from appliance.catalog.policies import ActiveRevisions, PolicyRevision
    from tiers.policy import Policy

__all__ = [
    "DEFAULT_SOURCE",
    "ActivePolicy",
    "OverlayUnfit",
    "PolicyStore",
    "Proposal",
    "check_proposal",
    "hash_source",
    "judge_proposal",
    "judge_revisions",
]

DEFAULT_SOURCE = "# The default policy: nobody applied another one.\nversion = 1\n"
"""What is in force without a file, as a file."""


class OverlayUnfit(Exception):
    """A policy is refused: a tenant's active overlay would not narrow it.

    Attributes:
        tenant: Whose overlay.
        revision: Of the overlay.
        cause: What is wrong with it under the new policy.
    """

    def __init__(self, tenant: str, revision: int, cause: PolicyInvalid) -> None:
        super().__init__(
            f"the overlay of tenant {tenant} (revision {revision}) does not fit it:\n{cause}"
        )
        self.tenant = tenant
        self.revision = revision
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivePolicy:
    """What is in force.

    Attributes:
        revision: Of the policy; None for the default.
        overlays: By tenant, the policy as that overlay narrows it.
        failures: Active revisions that are not in force, and why.
    """

    revision: int | None = None
    policy: Policy = field(default_factory=default_policy)
    overlays: Mapping[str, Policy] = field(default_factory=lambda: MappingProxyType({}))
    failures: tuple[str, ...] = ()

    def policy_of(self, tenant: str) -> Policy:
        """The policy as it is for a tenant's pages."""
        return self.overlays.get(tenant, self.policy)

    @property
    def digest(self) -> bytes:
        """The same for the same policies, whatever their texts look like."""
        # Records of plain values: what they print is all that they say.
        return blake3(repr((self.policy, sorted(self.overlays.items()))).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A text that shall come into force.

    Attributes:
        tenant: Whose overlay it is, None for the policy of the appliance.
        file: What messages call it.
    """

    source: str
    tenant: str | None
    file: str


class PolicyStore:
    """The policy in force; the default until `load` was called.

    Args:
        catalog: Keeps the revisions.
        on_failure: Told of each active revision that is not in force, whenever they are loaded.
    """

    def __init__(self, catalog: Catalog, *, on_failure: Callable[[str], None]) -> None:
        self._catalog = catalog
        self._on_failure = on_failure
        self._active = ActivePolicy()
        self._stored: ActiveRevisions | None = None
        # One load at a time: the last one to begin saw all that was committed before it.
        self._loading = trio.Lock()
        # A parse may take 50 ms, which is too long for the loop that serves requests.
        self._limiter = trio.CapacityLimiter(1)

    def active(self) -> ActivePolicy:
        """What is in force now."""
        return self._active

    async def load(self) -> None:
        """Put into force what the catalog says is active.

        Raises:
            CatalogError: The catalog cannot be read; what was in force stays.
        """
        async with self._loading:
            stored = self._stored = await self._catalog.read(load_active)
            self._active = await trio.to_thread.run_sync(
                partial(judge_revisions, stored), limiter=self._limiter
            )
        for failure in self._active.failures:
            self._on_failure(failure)

    async def refresh(self) -> None:
        """The same, where the catalog has changed since; another worker may have done that.

        Raises:
            CatalogError: See `load`.
        """
        if await self._catalog.read(load_active) != self._stored:
            await self.load()

    async def check(
        self, proposal: Proposal, stored: ActiveRevisions, *, tier_bytes: Mapping[str, int]
    ) -> tuple[PolicyFault, ...]:
        """See `check_proposal`."""
        return await trio.to_thread.run_sync(
            partial(check_proposal, proposal, stored, tier_bytes=tier_bytes),
            limiter=self._limiter,
        )

    async def preview(self, proposal: Proposal) -> ActivePolicy:
        """What would be in force with this policy; see `judge_proposal`.

        Raises:
            CatalogError: The catalog cannot be read.
        """
        stored = await self._catalog.read(load_active)
        return await trio.to_thread.run_sync(
            partial(judge_proposal, proposal, stored), limiter=self._limiter
        )


def judge_proposal(proposal: Proposal, stored: ActiveRevisions) -> ActivePolicy:
    """What would be in force with another policy, under the overlays that are active. Pure.

    Args:
        proposal: A policy of the appliance, no overlay.
        stored: What is active.

    Raises:
        PolicyInvalid: It has faults.
        OverlayUnfit: An active overlay does not narrow it.
    """
    assert proposal.tenant is None
    policy = parse_policy(proposal.source.encode(), file=proposal.file).policy
    overlays: dict[str, Policy] = {}
    for item in stored.revisions:
        if item.tenant is None:
            continue
        try:
            overlays[item.tenant] = parse_overlay(
                item.source.encode(), tenant=item.tenant, base=policy, file=_name(item)
            )
        except PolicyInvalid as error:
            raise OverlayUnfit(item.tenant, item.revision, error) from error
    return ActivePolicy(policy=policy, overlays=MappingProxyType(overlays))


def judge_revisions(stored: ActiveRevisions) -> ActivePolicy:
    """What of the active revisions is in force. Pure.

    Sizes of tiers are not looked at: a tier whose volumes are away for a while is no reason to
    move pages by other rules.
    """
    failures: list[str] = []
    policy, number = default_policy(), None
    overlays: dict[str, Policy] = {}
    applied = stored.find(None)
    if applied is not None:
        try:
            policy = parse_policy(_read_source(applied), file=_name(applied)).policy
            number = applied.revision
        except PolicyInvalid as error:
            failures.append(f"{_describe(error)}; the default policy is in force instead")
    for item in stored.revisions:
        if item.tenant is None:
            continue
        try:
            overlays[item.tenant] = parse_overlay(
                _read_source(item), tenant=item.tenant, base=policy, file=_name(item)
            )
        except PolicyInvalid as error:
            failures.append(f"{_describe(error)}; the policy is in force without this overlay")
    return ActivePolicy(
        revision=number,
        policy=policy,
        overlays=MappingProxyType(overlays),
        failures=tuple(failures),
    )


def check_proposal(
    proposal: Proposal, stored: ActiveRevisions, *, tier_bytes: Mapping[str, int]
) -> tuple[PolicyFault, ...]:
    """What is doubtful about a text that may come into force. Pure.

    Args:
        proposal: The text.
        stored: What is active.
        tier_bytes: Sizes of the tiers that there are.

    Raises:
        PolicyInvalid: It has faults.
        OverlayUnfit: It is a policy that an active overlay does not narrow.

    Complexity: a parse of each active overlay, of 50 ms at most.
    """
    data = proposal.source.encode()
    if proposal.tenant is not None:
        base = judge_revisions(stored).policy
        parse_overlay(data, tenant=proposal.tenant, base=base, file=proposal.file)
        return ()
    checked = parse_policy(data, file=proposal.file, tier_bytes=tier_bytes)
    for item in stored.revisions:
        if item.tenant is None:
            continue
        try:
            parse_overlay(
                item.source.encode(), tenant=item.tenant, base=checked.policy, file=_name(item)
            )
        except PolicyInvalid as error:
            raise OverlayUnfit(item.tenant, item.revision, error) from error
    return checked.warnings


def hash_source(source: str) -> bytes:
    """BLAKE3 of a text in UTF-8."""
    return blake3(source.encode()).digest()


def _read_source(item: PolicyRevision) -> bytes:
    """The text.

    Raises:
        PolicyInvalid: It is not the one that was stored.
    """
    if hash_source(item.source) != item.blake3:
        fault = PolicyFault(
            line=1, column=1, key="", rule="the text in the catalog is not the one applied"
        )
        raise PolicyInvalid(_name(item), [fault])
    return item.source.encode()


def _name(item: PolicyRevision) -> str:
    return f"revision {item.revision}"


def _describe(error: PolicyInvalid) -> str:
    """The first fault: a log line and a line of `status` have room for one."""
    more = f" and {len(error.faults) - 1} more" if len(error.faults) > 1 else ""
    return error.faults[0].format(error.file) + more
