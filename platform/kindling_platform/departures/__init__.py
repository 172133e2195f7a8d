"""Going: people take their data along and delete their accounts, owners delete organisations. The books stay."""
