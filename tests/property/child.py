"""Write inside a transaction, say so, and wait to be killed."""

import json
import sys
import time

from eventstore import ImageStore

with ImageStore.open(sys.argv[1]) as store, store.transaction(reason="killed"):
    config = {"comment": f"crash {sys.argv[2]}", "rootfs": {"type": "layers"}}
    store.create(json.dumps(config).encode())
    print("inside", flush=True)
    time.sleep(60)
