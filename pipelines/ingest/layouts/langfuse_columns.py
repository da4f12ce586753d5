"""The names Langfuse uses: the columns of its tables, in the interface's camelCase and the blob export's snake_case.

Every other column of an interface export is a score of that name, so the columns have to be known.
Source: Langfuse's export code as read in August 2026 (`worker/src/features/database-read-stream/`, domain models).
"""

import re
from typing import Final

_BOUNDARY: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def both_cases(names: str) -> frozenset[str]:
    """Names, given in camelCase with spaces between, as they are and in snake_case."""
    camel = names.split()
    return frozenset([*camel, *(_BOUNDARY.sub("_", name).lower() for name in camel)])


TRACE_COLUMNS: Final = both_cases(
    "id timestamp name userId sessionId release version environment tags bookmarked public input output metadata "
    "comments projectId createdAt updatedAt externalId htmlPath latency totalCost inputCost outputCost observations "
    "scores corrections level observationCount levelCounts usage usageDetails costDetails inputTokens outputTokens "
    "totalTokens errorCount warningCount defaultCount debugCount"
)
OBSERVATION_COLUMNS: Final = both_cases(
    "id traceId startTime endTime projectId parentObservationId type environment name level statusMessage version "
    "createdAt updatedAt input output metadata model internalModel internalModelId modelParameters "
    "completionStartTime promptId promptName promptVersion latency latencyMs timeToFirstToken timeToFirstTokenMs "
    "providedUsageDetails usageDetails costDetails providedCostDetails inputCost outputCost totalCost inputUsage "
    "outputUsage totalUsage usage unit promptTokens completionTokens totalTokens calculatedInputCost "
    "calculatedOutputCost calculatedTotalCost usagePricingTierId usagePricingTierName toolDefinitions toolCalls "
    "toolCallNames traceName traceTags traceTimestamp userId sessionId toolDefinitionsCount toolCallsCount modelId "
    "providedModelName inputPrice outputPrice totalPrice comments tags release bookmarked public isRootObservation "
    "scores"
)
SESSION_COLUMNS: Final = both_cases(
    "id userIds countTraces sessionDuration inputCost outputCost totalCost totalTokens inputTokens outputTokens usage "
    "traceTags createdAt updatedAt bookmarked public totalCount comments environment projectId traces users scores"
)

OVERWRITTEN: Final = both_cases(
    "name userId sessionId release version environment level statusMessage model providedModelName promptName traceName"
)
"""Columns of text that a score of the same name takes the place of in an interface export, where it is a list."""

KINDS: Final = {
    "GENERATION": "llm",
    "SPAN": "other",
    "EVENT": "other",
    "AGENT": "agent",
    "TOOL": "tool",
    "CHAIN": "chain",
    "RETRIEVER": "retriever",
    "EVALUATOR": "evaluator",
    "EMBEDDING": "embedding",
    "GUARDRAIL": "guardrail",
}
"""Our kind of each type of observation; SPAN and EVENT say nothing, so OpenTelemetry attributes may say more."""

KIND_ATTRIBUTES: Final = (
    "openinference.span.kind",
    "gen_ai.operation.name",
    "traceloop.span.kind",
    "langsmith.span.kind",
)
