"""Trimtab's own file layouts: the columns a file may have, in order, for each kind of record.

The same names hold in CSV, JSONL and Parquet, and equal the columns of the fact tables. They serve the downloadable
templates, the documentation, the identity mapping, and as the targets any other file's columns are mapped to.

Two pseudo-targets exist only in mappings: `duration_seconds` states when a trace or span ended as time since its start,
and `clicked` turns a row of kind "impressions" into an `impression` signal and, where true, a `click` signal too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from store.columns import FACT_COLUMNS

Kind = Literal["traces", "spans", "signals", "impressions"]
LayoutKind = Literal["traces", "spans", "signals"]
KINDS: Final[tuple[Kind, ...]] = ("traces", "spans", "signals", "impressions")


def _spellings(words: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """The spellings of each meaning: the words with their underscores also as spaces, as hyphens and left out."""
    return {
        meaning: frozenset(w.replace("_", joint) for w in text.split() for joint in ("_", " ", "-", ""))
        for meaning, text in words.items()
    }


BOOLEAN_WORDS: Final = _spellings({"true": "true yes y t 1 1.0 on", "false": "false no n f 0 0.0 off"})
THUMB_WORDS: Final = _spellings(
    {
        "1": "up +1 1 1.0 yes y true t like liked thumb_up thumbs_up upvote upvoted positive pos good great helpful 👍",
        "0": "down -1 -1.0 0 0.0 no n false f dislike disliked thumb_down thumbs_down downvote downvoted negative neg"
        " bad poor unhelpful not_helpful 👎",
    }
)
STATUS_WORDS: Final = _spellings(
    {
        "ok": "ok success succeeded successful 0 200 201 204 completed complete done finished passed pass true"
        " status_code_ok",
        "error": "error errored failed failure fail exception crashed aborted false status_code_error"
        " 400 401 403 404 408 409 422 429 500 502 503 504",
    }
)
SPAN_KIND_WORDS: Final = _spellings(
    {
        "llm": "llm generation chat completion chat_completion text_completion model llm_call model_call",
        "tool": "tool function tool_call tool_use function_call execute_tool action",
        "agent": "agent invoke_agent create_agent",
        "retriever": "retriever retrieval retrieve search rerank reranker",
        "chain": "chain workflow pipeline graph",
        "embedding": "embedding embeddings embed",
        "guardrail": "guardrail guardrails moderation",
        "evaluator": "evaluator evaluation eval",
        "other": "other",
    }
)
SIGNAL_KIND_WORDS: Final = _spellings(
    {
        "thumb": "thumb thumbs thumb_up thumbs_up thumb_down thumbs_down like liked dislike disliked upvote downvote"
        " 👍 👎",
        "rating": "rating rate rated star stars csat nps",
        "comment": "comment comments review feedback_text",
        "correction": "correction corrected",
        "preference": "preference preferred",
        "annotation": "annotation annotated label",
        "impression": "impression impressions view viewed shown show exposure exposed display displayed",
        "click": "click clicks clicked tap tapped open opened",
        "copy": "copy copied",
        "edit": "edit edited",
        "retry": "retry retried regenerate regenerated",
        "abandon": "abandon abandoned abandonment",
        "purchase": "purchase purchased buy bought order ordered checkout conversion converted",
        "judge": "judge judged llm_judge",
        "outcome": "outcome reward success result",
        "demonstration": "demonstration demo",
    }
)
ANNOTATOR_KIND_WORDS: Final = _spellings(
    {
        "user": "user customer end_user human person",
        "operator": "operator annotator expert reviewer staff admin",
        "llm": "llm model ai judge llm_judge",
        "code": "code api rule heuristic auto automatic test",
    }
)


class ColumnType(StrEnum):
    """What a target column holds; decides which transforms may fill it and how it is stored."""

    ID = "id"
    TEXT = "text"
    INTEGER = "integer"
    TOKENS = "tokens"
    POSITION = "position"
    NUMBER = "number"
    PROPENSITY = "propensity"
    MONEY = "money"
    BOOLEAN = "boolean"
    TIME = "time"
    DURATION = "duration"
    JSON_OBJECT = "json object"
    JSON_ARRAY = "json array"
    STATUS = "status"
    SPAN_KIND = "span kind"
    SIGNAL_KIND = "signal kind"
    ANNOTATOR_KIND = "annotator kind"


@dataclass(frozen=True)
class LayoutColumn:
    """One column of a layout, or one target of a mapping."""

    name: str
    type: ColumnType
    description: str
    required: bool = False


def _c(name: str, type_: ColumnType, description: str, *, required: bool = False) -> LayoutColumn:
    return LayoutColumn(name, type_, description, required)


_T = ColumnType

_ABOUT_TRACE: Final[dict[str, LayoutColumn]] = {
    column.name: column
    for column in (
        _c("agent", _T.TEXT, "Name of the agent that ran."),
        _c("agent_version", _T.TEXT, "Version of the agent's code or prompt."),
        _c("user_id", _T.ID, "Who the agent worked for."),
        _c("session_id", _T.ID, "The conversation or visit the trace belongs to."),
        _c("task", _T.TEXT, "Key that makes traces rollouts of the same thing; grouped by similarity when absent."),
        _c("arm", _T.TEXT, "The alternative that ran: a prompt version, a model, a tool set."),
        _c("model", _T.TEXT, "Model that answered, as the provider names it."),
        _c("model_fingerprint", _T.TEXT, "The provider's fingerprint of the model behind the name."),
        _c("decision_id", _T.ID, "The answer of the steering endpoint that the agent followed."),
    )
}

_RUN: Final[dict[str, LayoutColumn]] = {
    column.name: column
    for column in (
        _c("started_at", _T.TIME, "Start, ISO 8601; without a zone it is read as UTC."),
        _c("ended_at", _T.TIME, "End, ISO 8601; without a zone it is read as UTC."),
        _c("status", _T.STATUS, "ok or error; empty when the source does not say."),
        _c("input", _T.TEXT, "What went in: the request, the prompt, the arguments."),
        _c("output", _T.TEXT, "What came out: the answer or the result."),
        _c("input_tokens", _T.TOKENS, "Tokens read by models, a whole number."),
        _c("output_tokens", _T.TOKENS, "Tokens written by models, a whole number."),
        _c("cost_usd", _T.MONEY, "Cost in US dollars."),
    )
}

_DURATION: Final = _c("duration_seconds", _T.DURATION, "Time from start to end; gives ended_at where that is absent.")

TRACES: Final[tuple[LayoutColumn, ...]] = (
    _c("trace_id", _T.ID, "Id of the trace: one run of an agent for one request.", required=True),
    _c("source", _T.TEXT, "System that recorded the trace; the source given at upload when absent."),
    *(_ABOUT_TRACE[name] for name in ("agent", "agent_version", "user_id", "session_id", "task", "arm", "model")),
    *(_ABOUT_TRACE[name] for name in ("model_fingerprint", "decision_id")),
    *_RUN.values(),
    _c("metadata", _T.JSON_OBJECT, "A JSON object with anything else; unknown columns are added to it."),
)

SPANS: Final[tuple[LayoutColumn, ...]] = (
    _c("trace_id", _T.ID, "Id of the trace the span belongs to.", required=True),
    _c("span_id", _T.ID, "Id of the span, unique within its trace.", required=True),
    _c("parent_span_id", _T.ID, "Id of the span this one ran inside; empty for the root."),
    _c("ordinal", _T.INTEGER, "Order of the span within its trace, a whole number; breaks ties in time."),
    _c("kind", _T.SPAN_KIND, f"One of {', '.join(SPAN_KIND_WORDS)}; other when absent."),
    _c("name", _T.TEXT, "Name of the operation, such as the tool called."),
    *(_RUN[name] for name in ("started_at", "ended_at", "status")),
    _c("status_message", _T.TEXT, "The error's text, or another note on the status."),
    *(_RUN[name] for name in ("input", "output")),
    _ABOUT_TRACE["model"],
    *(_RUN[name] for name in ("input_tokens", "output_tokens", "cost_usd")),
    _c("attributes", _T.JSON_OBJECT, "A JSON object with anything else; unknown columns are added to it."),
    _c("links", _T.JSON_ARRAY, "A JSON array of objects with trace_id and span_id of related spans."),
    *(_ABOUT_TRACE[name] for name in ("agent", "agent_version", "user_id", "session_id", "task", "arm")),
    *(_ABOUT_TRACE[name] for name in ("model_fingerprint", "decision_id")),
)

SIGNALS: Final[tuple[LayoutColumn, ...]] = (
    _c("signal_id", _T.ID, "Id of the signal; derived from the row's contents when absent."),
    _c("trace_id", _T.ID, "The trace it is about; without it the trace is found by session, or by user and time."),
    _c("span_id", _T.ID, "The span it is about, when it is about one step."),
    _c("session_id", _T.ID, "The conversation or visit in which it was given."),
    _c("user_id", _T.ID, "Who gave it."),
    _c("kind", _T.SIGNAL_KIND, f"One of {', '.join(SIGNAL_KIND_WORDS)}.", required=True),
    _c("name", _T.TEXT, "What was asked or measured, such as helpfulness."),
    _c("item", _T.TEXT, "What was shown, clicked or bought."),
    _c("value", _T.NUMBER, "0 to 1 where the kind has a direction (1 is good: thumb 1 or 0), else any number."),
    _c("text", _T.TEXT, "The comment, correction or demonstration itself."),
    _c("position", _T.POSITION, "Rank at which the item was shown, from 1."),
    _c("propensity", _T.PROPENSITY, "Probability with which the item was shown or the person was asked, in (0, 1]."),
    _c("solicited", _T.BOOLEAN, "Whether it was asked for at random with that propensity, rather than volunteered."),
    _c("annotator_kind", _T.ANNOTATOR_KIND, f"Who judged: one of {', '.join(ANNOTATOR_KIND_WORDS)}."),
    _c("annotator_id", _T.ID, "Which user, operator, model or check judged."),
    _c("occurred_at", _T.TIME, "When it happened, ISO 8601; without a zone it is read as UTC."),
    _c("metadata", _T.JSON_OBJECT, "A JSON object with anything else; unknown columns are added to it."),
)

LAYOUTS: Final[dict[LayoutKind, tuple[LayoutColumn, ...]]] = {"traces": TRACES, "spans": SPANS, "signals": SIGNALS}

_CLICKED: Final = _c("clicked", _T.BOOLEAN, "Whether the item shown was clicked; empty means no.", required=True)
_NOT_OF_IMPRESSIONS: Final = {"kind", "value", "text"}


def _by_name(columns: tuple[LayoutColumn, ...]) -> dict[str, LayoutColumn]:
    return {column.name: column for column in columns}


TARGETS: Final[dict[Kind, dict[str, LayoutColumn]]] = {
    "traces": _by_name((*TRACES, _DURATION)),
    "spans": _by_name((*SPANS, _DURATION)),
    "signals": _by_name(SIGNALS),
    "impressions": _by_name((*(c for c in SIGNALS if c.name not in _NOT_OF_IMPRESSIONS), _CLICKED)),
}
"""What the columns of a file may be mapped to, by kind of mapping: the layout's columns and the pseudo-targets."""

USUAL_NAMES: Final[dict[str, str]] = {
    "trace_id": "traceid runid requestid interactionid rolloutid episodeid trajectoryid contexttraceid | id uuid"
    " messageid responseid logid generationid callid completionid",
    "span_id": "spanid contextspanid observationid stepid | id",
    "parent_span_id": "parentspanid parentid parentobservationid parentrunid parentstepid | parent",
    "user_id": "userid uid user customerid customer clientid accountid memberid visitorid distinctid enduserid"
    " endusers userkey userhash username subscriberid | email useremail account member person client voter respondent",
    "session_id": "sessionid session conversationid conversation convid threadid thread chatid dialogid dialogueid"
    " visitid sessid | chat dialog",
    "task": "task taskid taskname taskkey testcase scenario problemid questionid | intent usecase exampleid promptid",
    "arm": "arm variant variantname variantid treatment experimentarm promptversion | bucket group abgroup experiment",
    "agent": "agent agentname agentid bot botname assistantid assistantname | app application service servicename"
    " workflow",
    "agent_version": "agentversion appversion release botversion | version",
    "model": "model modelname modelid llm llmmodel llmmodelname providedmodelname requestmodel responsemodel"
    " genairequestmodel genairesponsemodel | engine deployment",
    "model_fingerprint": "modelfingerprint systemfingerprint | fingerprint",
    "decision_id": "decisionid steerdecisionid",
    "started_at": "startedat starttime startts startat started starttimestamp requesttime requestedat timestamp ts"
    " createdat createtime creationtime | start begin begintime time datetime date created loggedat receivedat"
    " eventtime occurredat sentat when day",
    "ended_at": "endedat endtime endts finishedat finishtime completedat respondedat stoptime | end finished completed",
    "duration_seconds": "durationseconds latency latencyms latencys latencysec latencyseconds latencymilliseconds"
    " duration durationms durationsec durations elapsed elapsedms elapsedseconds elapsedtime responsetime"
    " responsetimems tookms runtimems executiontime executiontimems executiondurationms processingtimems"
    " totaltimems | took runtime totaltime",
    "status": "status state statuscode success issuccess succeeded completionstatus runstatus | level outcome result",
    "status_message": "statusmessage errormessage errormsg errortext | error exception message",
    "input": "input inputs prompt question query userquery userinput usermessage userprompt userquestion inputtext"
    " inputvalue instruction utterance request requesttext requestbody | message messages arguments args toolinput"
    " parameters problem",
    "output": "output outputs answer response completion reply outputtext outputvalue modeloutput modelresponse"
    " assistantmessage assistantresponse botresponse botreply aianswer llmresponse llmoutput generatedtext"
    " responsetext responsebody finalanswer | result generation text tooloutput",
    "input_tokens": "inputtokens prompttokens tokensin tokensinput intokens inputtokencount prompttokencount"
    " numinputtokens numprompttokens usageinputtokens usageprompttokens llmtokencountprompt genaiusageinputtokens",
    "output_tokens": "outputtokens completiontokens tokensout tokensoutput outtokens outputtokencount"
    " completiontokencount numoutputtokens numcompletiontokens usageoutputtokens usagecompletiontokens"
    " llmtokencountcompletion genaiusageoutputtokens",
    "cost_usd": "costusd cost costs totalcost totalcostusd costcents costincents costdollars costmicrousd"
    " costmicros price pricecents priceusd llmcosttotal totalprice | usd spend charge amount",
    "metadata": "metadata meta properties extra | attributes context",
    "attributes": "attributes attrs metadata | meta properties extra",
    "links": "links",
    "ordinal": "ordinal stepindex stepnumber stepno sequence seq turnindex | index order step turn position",
    "signal_id": "signalid feedbackid scoreid annotationid ratingid reviewid eventid surveyid responseid voteid |"
    " id uuid",
    "item": "item itemid itemname sku product productid productname article articleid contentid documentid docid"
    " offer offerid asin movieid songid videoid recommendation recommendationid shownitem listingid | link url"
    " option content document title action chosenaction",
    "value": "value score rating ratings stars star starrating thumb thumbs thumbsup vote feedback userfeedback"
    " feedbackvalue feedbackscore userrating like liked helpful washelpful ishelpful useful reaction satisfaction"
    " satisfied csat nps npsscore csatscore resultscore reward grade | amount revenue total price quality"
    " sentiment label success outcome correct iscorrect passed",
    "text": "text comment comments feedbacktext feedbackcomment usercomment review reviewtext correction"
    " correctedanswer explanation resultexplanation freetext verbatim | note notes reason remark remarks rationale"
    " body message feedback",
    "position": "position rank pos slot ranking displayposition listposition itemposition placement | index order row",
    "propensity": "propensity propensityscore pscore actionprob actionprobability loggedpropensity displayprob"
    " samplingprobability showprob | prob probability p",
    "solicited": "solicited prompted wasasked surveyed | asked requested",
    "annotator_kind": "annotatorkind annotatortype ratertype evaluatortype judgetype sourcetype | source",
    "annotator_id": "annotatorid annotator rater raterid ratedby judge judgename judgemodel evaluator evaluatorname"
    " reviewer reviewerid annotatedby authorusername | author labeler",
    "occurred_at": "occurredat timestamp ts createdat eventtime eventtimestamp eventts clickedat feedbackat"
    " feedbacktime submittedat ratedat servedat shownat impressiontime impressionat viewedat loggedat | time"
    " datetime date created when day",
    "clicked": "clicked click isclick isclicked wasclicked hasclicked didclick clickflag clicklabel | label y reward",
    "spans.kind": "kind spankind spantype runtype observationtype operationtype openinferencespankind | type",
    "spans.name": "name spanname operationname operation tool toolname function functionname step stepname opname |"
    " action displayname",
    "signals.kind": "kind signalkind eventtype eventname event feedbacktype interactiontype | type action signal",
    "signals.name": "name metric metricname scorename criterion dimension annotationname | key question campaign",
}
"""What other systems call our targets, without case and punctuation; after the bar, names that often mean other things.

A target that means different things by kind has its kind in front.
"""

TABLES: Final[dict[Kind, str]] = {
    "traces": "trace_records",
    "spans": "spans",
    "signals": "signals",
    "impressions": "signals",
}
"""The fact table that rows of each kind of mapping go to."""


def fact_columns(kind: Kind) -> dict[str, str]:
    """Names and DuckDB types of the fact table's columns for this kind of mapping, in the table's order."""
    return FACT_COLUMNS[TABLES[kind]]
