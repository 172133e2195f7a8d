"""What whoever runs this installation does over the API; needs the scope `operator`, for tenants it does not exist."""
