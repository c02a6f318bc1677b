"""Append from another process: `writer.py PATH NAME COUNT [MAP_SIZE]`.

Prints a line after each batch that was acknowledged: its number, the position after it, and how
many images of other writers were seen by then.
"""

import json
import sys

from eventstore import ImageStore

path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
map_size = int(sys.argv[4]) if len(sys.argv) > 4 else 1 << 30

with ImageStore.open(path, actor=name, map_size=map_size) as store:
    print("open", flush=True)
    for number in range(count):
        with store.transaction(reason=f"{name} {number}") as transaction:
            for part in range(2):
                config = {"comment": f"{name} {number} {part}", "rootfs": {"type": "layers"}}
                store.create(json.dumps(config).encode())
        last = transaction.records[-1].position
        others = sum(record.actor != name for record in store.records())
        print(number, last, others, flush=True)
