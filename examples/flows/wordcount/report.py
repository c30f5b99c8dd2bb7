# Adds up what the count jobs found and shows the words that occur most.
#
# MUSTER_INPUTS names a file with the result of every job that this one depends on, by job id;
# DEPENDS says which ids belong to which job of the flow file. Results are texts: maps come as JSON.
import json
import os
from collections import Counter

with open(os.environ["MUSTER_INPUTS"]) as file:
    inputs = json.load(file)
ids = json.loads(os.environ["DEPENDS"])

stop = set(inputs[ids["stopwords"][0]]["words"].split())
counts = Counter()
for job in ids["count"]:
    counts.update(json.loads(inputs[job]["counts"]))
total = sum(int(inputs[job]["words"]) for job in ids["count"])

rows = sorted(((n, word) for word, n in counts.items() if word not in stop), key=lambda row: (-row[0], row[1]))
text = f"{total} words in {len(ids['count'])} texts; most used:\n"
for number, word in rows[: int(os.environ["TOP"])]:
    text += f"{number:5}  {word:12}  {'#' * number}\n"
with open(os.environ["MUSTER_RESULT"], "w") as result:
    json.dump({"text": text, "words": total}, result)
