package cli

// Usage marks an error of another command as wrong usage, for ExitCode.
func Usage(err error) error { return usage(err) }
