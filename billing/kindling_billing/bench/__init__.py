"""`kindling bench rating`: a synthetic month rated, invoiced and rated anew, with every sum compared."""
