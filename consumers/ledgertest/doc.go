// Package ledgertest is the contract of consumers.Ledger and consumers.Batch: every
// store runs it, beside the contract of its own data.
package ledgertest
