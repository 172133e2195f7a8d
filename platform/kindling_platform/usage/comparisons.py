"""Where workers leave in Valkey what they have found when they compared the books last, for whoever shows metrics."""

from typing import Final

# Wallets in Valkey against the ledger, once a minute.
DRIFT_KEY: Final = "kd:drift"
# Gateways' spools against engines' logs, once a minute.
WITNESSES_KEY: Final = "kd:witnesses"
# When that was, in seconds since 1970: figures that grow old are no comfort.
COMPARED_AT: Final = "compared_at_s"
