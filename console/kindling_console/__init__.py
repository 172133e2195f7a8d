"""The console: htmx pages over the platform's services and selectors."""
