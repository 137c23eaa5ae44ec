"""A process that sends an index slowly, a batch of 10 rows at a time, and says how far it is."""

import sys
import time

from cgdcli.config import MilvusConfig
from cgdcli.index.milvus.sending import send_to_milvus


def say(done, total, _):
    print(done, flush=True)
    time.sleep(0.02)


send_to_milvus(sys.argv[1], sys.argv[2], config=MilvusConfig(batch_bytes=10 * 332), on_progress=say)
