// Empty: cargo builds the dependencies.
