"""Words that are not indexed, by language."""

# Function words: articles, pronouns, prepositions, conjunctions, auxiliaries; of English also the "s" and "t" that an apostrophe
# leaves behind. Languages without a list get a low IDF for theirs instead.
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

# Croatian and Bosnian, folded as texts are. Left out are words whose folded form means something else: "sto" (što) is a hundred.
_SOUTH_SLAVIC = """
i u na je se da za od su s sa a o ne ni niti nije nisu nisam nismo niste koji koja koje kojeg kojega kojem kojemu kojim kojima koju
kojoj kojom po iz do bi bih bismo biste kao to taj ta tog toga tom tome tim ovaj ova ovo ovog ovoga ovom ovome ovim onaj ona ono on
oni one onog onoga njega njemu njom njih njima njegov njihov ga mu je joj ju ih im ili te ako ce cu cemo cete biti bio bila bilo bili
jest jesu sam si smo ste jer kako ali pa no vec samo moze mogu pri prema pred nakon prije kad kada gdje ja ti mi vi me mene nam nama
nas vam vama vas svoj svoje svoju svojih svojim tko dok kroz radi zbog
"""

STOP_WORDS: dict[str, frozenset[str]] = {
    "bs": frozenset(_SOUTH_SLAVIC.split()),
    "en": frozenset(_ENGLISH.split()),
    "hr": frozenset(_SOUTH_SLAVIC.split()),
}
