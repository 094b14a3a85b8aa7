"""One module for each command of `precis`: a function of the same name, imported lightly."""
