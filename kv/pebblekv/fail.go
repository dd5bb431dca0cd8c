package pebblekv

import (
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail"
)

// readError names what could not be read. Corruption ends the store.
func (s *Store) readError(what string, p wal.Partition, err error) error {
	err = fmt.Errorf("%s: partition %d: %w", what, p, pebblefail.Corrupt(err))
	if errors.Is(err, wal.ErrCorrupt) {
		s.fail.Fail(err)
	}
	return err
}

// tokensError is told when filters could not be read back. Corruption ends the
// store.
func (s *Store) tokensError(err error) {
	s.log.Error("rebuild token filters", "error", err)
	if errors.Is(err, wal.ErrCorrupt) {
		s.fail.Fail(err)
	}
}
