# Counts the words of one text. The result of the job is the JSON object in MUSTER_RESULT.
import json
import os
import re
from collections import Counter

words = re.findall("[a-z]+", os.environ["INPUT"].lower())
counts = Counter(words)
print(f"{os.environ['INPUT_FILE']}: {len(words)} words, {len(counts)} different ones")
with open(os.environ["MUSTER_RESULT"], "w") as result:
    json.dump({"words": len(words), "counts": counts}, result)
