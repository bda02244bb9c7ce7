"""Words that are not indexed, by language."""

# Function words of English: articles, pronouns, prepositions, conjunctions, auxiliaries, and the "s" and "t" that an
# apostrophe leaves behind. Other languages have no list: their function words get a low IDF instead.
_ENGLISH = """
a an the this that these those
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves who whom whose which what
about above after against at before below between by down during for from in into of off on onto out over through to
toward towards under until up upon with within without
and but or nor so if because as while than then
am is are was were be been being have has had having do does did doing can could may might must shall should will would
not no s t there here when where why how all any both each few more most other some such only own same too very just
"""

STOP_WORDS: dict[str, frozenset[str]] = {"en": frozenset(_ENGLISH.split())}
