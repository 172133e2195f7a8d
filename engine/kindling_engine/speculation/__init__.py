"""Several tokens from one step: guesses at what comes next, and what they are worth."""
