// Package timeseriestest is what every timeseries.Store has to pass.
//
// Run compares a store with plain models: its ledger (ledgertest), and random programs of events
// that come late, doubled and with other items, of deletions, slices that are dropped and
// stores that are opened again, read and searched in every order, in pages of every size.
package timeseriestest
