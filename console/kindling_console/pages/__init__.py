"""One module per page: thin views over services and selectors."""
