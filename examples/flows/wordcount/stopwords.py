# The words that say nothing about a text. The list "comes from elsewhere" and is not there at
# the first attempt: the coordinator waits a moment and tries again. Attempts go on counting when
# the flow is run again, so that every other one fails.
import json
import os
import sys

WORDS = """
a about above after again all also always am an and another any anybody are as at back be because been
before began begin begins begun being below between both but by came can cannot come comes could
did do does done down each else end even ever every everybody everything few find first for from
gave get go goes gone good had has have he her here him his how i if in into is it its just know knows
last left less like little long made make makes many may me might more most much must my never new next no nobody none
nor not nothing now of off often old on once one ones only or other others our out over own part
people person put same say says said see seen she should since so some somebody something somewhere still such take than that
the their them then there these they thing things this those though through time to today told too took tomorrow
two under until up us use used very was way we well went were what when where wherever whether which while who whom
whoever whose why will with without would yes yesterday yet you your
"""

if int(os.environ["MUSTER_ATTEMPT"]) % 2 == 1:
    sys.exit("the list of stop words did not come")
with open(os.environ["MUSTER_RESULT"], "w") as result:
    json.dump({"words": " ".join(WORDS.split())}, result)
