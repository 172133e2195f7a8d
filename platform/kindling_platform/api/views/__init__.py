"""One module per noun; views call services and selectors and shape the answer."""
