"""Phrases and marks of attacks on an agent's instructions, by what they do."""

import re
from typing import Final

__all__ = ["MARKS", "PHRASES"]

_BEFORE: Final = (
    "(?:all|any|every|each|the|your|my|these|those|previous|prior|preceding|above|earlier|existing|original|other)"
)
_RULES: Final = (
    "(?:instructions?|rules?|prompts?|directions?|directives?|guidelines?|guidance|"
    "constraints?|messages?|context|orders|training|programming|lessons?)"
)
# Over folded words, so that look-alike letters, spacing and marks hide nothing; with True, a negation before one
# disarms it.
PHRASES: Final = tuple(
    (what, re.compile(rf"\b(?:{pattern})\b"), disarmed)
    for what, pattern, disarmed in (
        (
            "an order to drop instructions",
            r"(?:stop|cease|quit|no longer|never again) (?:follow\w*|obey\w*|apply\w*|heed\w*|using|use) "
            rf"(?:{_BEFORE} ){{0,3}}(?:\w+ )?(?:polic(?:y|ies)|{_RULES})",
            False,
        ),
        (
            "an order to drop instructions",
            r"(?:polic(?:y|ies)|rules|instructions|guidelines|restrictions|limits|what (?:is|was|has "
            r"been) (?:written|said|told)"
            r")(?: \w+){0,4} (?:no longer|do not|does not|dont|doesnt) (?:apply|count|matter|hold|bind)",
            False,
        ),
        (
            "an order to drop instructions",
            r"(?:ignora|olvida|omite|descarta|esqueca|ignorez|oubliez?|dimentica|ignorier\w*|vergiss|"
            r"vergesst|missachte\w*)"
            r"(?: \w+){0,4} (?:instrucciones|reglas|indicaciones|instrucoes|regras|istruzioni|regole|instructions|"
            r"consignes|regles|anweisungen|regeln|vorgaben|instruktionen)",
            False,
        ),
        ("an order to drop instructions", r"(?:忽 略|无 视|無 視)(?: \w){0,12} (?:指 令|指 示|规 则|規 則)", False),
        (
            "a claim of priority",
            r"(?:obey|follow|heed|execute|comply with|listen to|do as) (?:\w+ ){0,6}(?:over|instead "
            r"of|above|rather than) "
            r"(?:any|all|every|the|your|other)(?: other)? (?:rules?|instructions?|polic(?:y|ies)|"
            r"guidelines?|lessons?)",
            True,
        ),
        ("a claim of priority", r"(?:follow|obey|listen to|trust) (?:only )?me(?: instead| alone| only)?", True),
        (
            "a change of role",
            r"(?:assume|take on|adopt|play|step into) (?:the |a |an )?(?:new )?(?:role|persona|"
            r"identity|character) of|"
            r"(?:act|behave|respond|answer|speak) as (?:if|though) you (?:were|are|had)",
            True,
        ),
        (
            "a change of role",
            r"treat (?:every|all|any|each|the) (?:users?|customers?|requests?|callers?|messages?) as "
            r"(?:an? )?(?:admin\w*|"
            r"trusted|verified|authenticated|authori[sz]ed|root|owners?)",
            True,
        ),
        ("a change of role", r"(?:enter|switch (?:in)?to|activate|enable) (?:\w+ )?admin mode", True),
        (
            "an order to disclose",
            r"(?:output|repeat|print|show|tell|give|quote|write|copy)(?: me| us)? (?:everything|all|"
            r"anything|the text|the words|"
            r"what (?:is|was|stands)) (?:\w+ )?(?:above|before|preceding)",
            True,
        ),
        (
            "an order to disclose",
            r"(?:hidden|secret|internal|original|initial) (?:instructions?|prompts?|rules)",
            False,
        ),
        (
            "an order to hide",
            r"(?:do not|dont|never) let (?:the |any |your )?(?:operators?|supervisors?|managers?|"
            r"users?|customers?|humans?|"
            r"reviewers?|anyone|anybody|owner)(?: \w+)? (?:know|see|find out|notice|learn)",
            False,
        ),
        (
            "an order to hide",
            r"secretly|covertly|surreptitiously|behind (?:the|their|his|her) \w*s? ?backs?|unnoticed "
            r"by",
            True,
        ),
        ("running code", r"(?:curl|wget) (?:\w+ ){1,8}(?:bash|sh|python|zsh)", True),
        (
            "an order to drop instructions",
            rf"(?:ignore|disregard|forget|override|bypass|discard|neglect|drop|overrule) (?:{_BEFORE} |"
            rf"of |about |what ){{1,4}}"
            rf"(?:\w+ )?{_RULES}",
            True,
        ),
        (
            "an order to drop instructions",
            r"(?:ignore|disregard|forget) (?:everything|all|anything|what)(?: that)?(?: you| was| "
            r"were| has| ive| i)? (?:above|before|said|told|been told|were told|learned|earlier|"
            r"previously|so far)",
            True,
        ),
        (
            "new instructions",
            r"(?:new|updated|real|actual|true|secret) (?:system )?(?:instructions|prompt|directive)s? "
            r"(?:are|is|follows?|begin|below)",
            False,
        ),
        (
            "a change of role",
            r"(?:you are|youre) (?:now|no longer|actually|really) (?:an?|the|in|my|not|free|"
            r"unrestricted|dan|called|named|allowed)\b.{0,40}",
            False,
        ),
        (
            "a change of role",
            r"(?:from now on|starting now|henceforth),? (?:you|act|answer|respond|behave|always|reply)",
            False,
        ),
        (
            "a change of role",
            r"(?:act|behave|respond|answer|reply|operate|roleplay|role play) (?:as|like) (?:an? |the |"
            r"if you (?:are|were) |though you (?:are|were) |my )?(?:\w+ ){0,2}(?:admin|administrator|"
            r"root|developer|operator|system|dan|human|hacker|unrestricted|unfiltered|evil|jailbroken|"
            r"superuser|owner|manager|supervisor|engineer|assistant without)",
            True,
        ),
        ("a change of role", r"pretend (?:to be|that you|youre|you are|you have)", True),
        (
            "a change of role",
            r"(?:developer|debug|admin|god|dan|jailbreak|maintenance|root|sudo|unrestricted|test) "
            r"mode (?:is )?(?:on|enabled|activated|active|now)|(?:enter|enable|activate|switch "
            r"(?:in)?to) (?:developer|debug|admin|god|dan|jailbreak|maintenance|root|sudo|"
            r"unrestricted) mode|jailbreak\w*",
            True,
        ),
        (
            "talk of the system prompt",
            r"system (?:prompt|message|instructions?)|(?:initial|hidden|original) (?:prompt|"
            r"instructions)|(?:your|the agents?) (?:prompt|instructions) (?:verbatim|word for word)",
            False,
        ),
        (
            "an order to disclose",
            r"(?:reveal|print|repeat|show|output|display|leak|dump|disclose|expose|share|tell|send|"
            r"echo|exfiltrate) (?:\w+ ){0,4}(?:prompt|your instructions|api keys?|passwords?|"
            r"credentials|secrets?|access tokens?|private keys?|env(?:ironment)? variables|other "
            r"(?:users|customers|patients|members)\w*)",
            True,
        ),
        (
            "an order to hide",
            r"(?:do not|dont|never) (?:ever )?(?:tell|inform|alert|notify|warn|mention|report|"
            r"disclose|reveal)(?: \w+){0,4} (?:operators?|humans?|anyone|anybody|owner|reviewers?|"
            r"admins?|supervisors?|this lesson|this rule|this instruction|these instructions)",
            False,
        ),
        (
            "an order to hide",
            r"(?:do not|dont|never) (?:ever )?(?:tell|inform|alert|notify|warn|mention to) (?:the |"
            r"any )?(?:users?|customers?)(?: about| of)? (?:this|these|why|anything)\b",
            False,
        ),
        (
            "an order to hide",
            r"without (?:ever )?(?:telling|informing|alerting|notifying|warning|mentioning)(?: it| "
            r"this| that)?(?: to)? (?:the |any )?(?:users?|customers?|operators?|humans?|anyone|"
            r"anybody|owner|person)",
            True,
        ),
        (
            "an order to hide",
            r"keep (?:this|it|these|that) (?:\w+ ){0,2}(?:secret|hidden|confidential|between us|to "
            r"yourself)|(?:hide|conceal) (?:this|it|these|that|the (?:change|transfer|action|charge|"
            r"fee|fact))(?: \w+){0,3} from",
            True,
        ),
        (
            "posing as an authority",
            r"(?:this is|message from|on behalf of|as|per) (?:an? |the |your )?(?:system "
            r"administrator|administrator|openai|anthropic|developer team|developers|security team|"
            r"trimtab|ceo)(?: (?:speaking|team|override|message|notice|order|orders|has|have|requires|"
            r"instructs?)\b)",
            False,
        ),
        (
            "posing as an authority",
            r"(?:admin|administrator|developer|system|security|emergency|operator) override|"
            r"authori[sz]ation code|override code",
            False,
        ),
        (
            "a claim of priority",
            r"(?:this|these|the following) (?:\w+ )?(?:instructions?|rules?|lessons?|messages?) "
            r"(?:takes?|has|have|overrides?|supersedes?|outranks?)(?: \w+)? (?:precedence|priority|"
            r"all|every|any|other|everything)\b",
            False,
        ),
        (
            "a claim of priority",
            r"(?:highest|top|maximum|absolute) priority (?:instruction|order|rule|directive|lesson)",
            False,
        ),
        (
            "sending data out",
            r"(?:send|forward|post|upload|transmit|exfiltrate|copy|email|cc|bcc) (?:\w+ ){0,8}(?:to|"
            r"at|into) (?:an? |the |my |this |our )?(?:external|attacker\w*|outside|remote|third "
            r"party|personal|private|webhook\w*|pastebin|my)(?: \w+)?",
            True,
        ),
        (
            "running code",
            r"(?:rm rf|curl http\w*|wget http\w*|eval base64|base64 decode|os system|subprocess|"
            r"powershell|drop table|bash c|chmod 777)",
            True,
        ),
    )
)
# Over the text as it stands: these are made of punctuation.
MARKS: Final = tuple(
    (what, re.compile(pattern))
    for what, pattern in (
        (
            "a link",
            r"(?i)\b(?:https?|ftp|file|ws|wss|hxxps?)\s?:\s?//\S*|\b(?:javascript|mailto|vbscript):\S+|\bwww\.\S+"
            r"|\bdata:[a-z]+/\S+|\btel:\+?\d+",
        ),
        ("a template", r"\{\{[^{}]{0,200}\}\}|\{%[^%]{0,200}%\}"),
        ("a Markdown image", r"!\[[^\]\n]{0,300}\]\s?[(\[]"),
        ("a Markdown link", r"\[[^\]\n]{0,300}\]\([^)\n]{0,300}\)|^\s{0,3}\[[^\]\n]{1,100}\]:\s"),
        (
            "HTML",
            r"(?i)<\s?/?\s?(?:a|img|script|iframe|svg|style|form|input|meta|link|object|embed|body|"
            r"html|div|span|video|audio|base|b|i|u|p|br|h[1-6]|table|button)(?:\s[^<>]{0,300})?/?>|"
            r"&#x?[0-9a-f]{2,6};",
        ),
        (
            "a turn of a conversation",
            r"<\|[^|>\n]{1,40}\|>|\[/?(?:INST|SYS|SYSTEM)\]|<</?SYS>>|(?i:</?(?:system|assistant|user|"
            r"human|instructions?|tool_result|tool_call|function_calls?|context|policy|untrusted|"
            r"lesson|admin|prompt)(?:\s[^<>]{0,100})?>)",
        ),
        (
            "a turn of a conversation",
            r"(?im)(?:^|[\n.!?]\s*|#{1,6}\s*)(?:system|instructions?|assistant|human|developer|ai|"
            r"user|tool)\s?:\s?(?=\S)",
        ),
        (
            "new instructions",
            r"(?i)\b(?:new|updated|real|actual|secret) (?:system )?(?:instructions?|rules?|directives?)\s?:",
        ),
        ("a heading of a playbook", r"(?m)^\s{0,3}#{1,6}\s|## \[|^---+\s*$|```"),
        (
            "encoded text",
            r"(?<![\w/+=-])(?=[A-Za-z0-9+/]{0,200}[a-z])(?=[A-Za-z0-9+/]{0,"
            r"200}[A-Z])(?=[A-Za-z0-9+/]{0,200}\d)[A-Za-z0-9+/]{40,}={0,2}|(?:\\x[0-9a-fA-F]{2}){4,}|"
            r"(?:\\u[0-9a-fA-F]{4}){3,}|(?:%[0-9a-fA-F]{2}){4,}",
        ),
    )
)
