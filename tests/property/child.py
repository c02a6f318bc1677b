"""Write inside a transaction, say so, and wait to be killed."""

import sys
import time

from eventstore import ImageStore

with ImageStore.open(sys.argv[1]) as store, store.transaction(reason="killed"):
    config = '{"comment": "crash %s", "rootfs": {"type": "layers"}}' % sys.argv[2]
    store.create(config.encode())
    print("inside", flush=True)
    time.sleep(60)
