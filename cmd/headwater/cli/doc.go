// Package cli is the verbs of the headwater command that talk to a server: kv,
// counter, log, dlq, namespace and status.
//
// What goes to standard output is data: values, tables or, with -o json, one
// JSON object a line. Everything else goes to standard error. An error is one
// line, "error: what happened; what to do (HW-####)", and the exit code tells its
// kind; see ExitCode. Text arguments are taken as they are, or as base64 with
// --base64, which then also holds for what is printed.
//
// It does not start servers and knows nothing of them but the API.
package cli
