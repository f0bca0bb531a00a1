"""One model at a time is loaded by transformers in this process.

`from_pretrained` switches the tying of weights off for the whole process, and then back to what it found.  Two at once
can leave it off for good, and every model loaded after that with a tied output layer has a random one.
"""

from __future__ import annotations

import threading

LOADING = threading.Lock()
