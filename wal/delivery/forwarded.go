package delivery

import "github.com/headwater-db/headwater/wal"

// Forward makes the record of a message that comes from another log namespace; the caller sets its Origin and appends
// it. Nobody is asked whether it is a copy: its place tells the applier (see wal.Source). m.Token has a nonce; its
// time is made here. Errors: as Write, before the log.
func (db *DB) Forward(m *Message) (wal.Appending, error) {
	m.Token.GenerationTime = 0
	return db.Stage(m)
}

// Stage is Forward of a message of a Group, whose token is complete.
func (db *DB) Stage(m *Message) (wal.Appending, error) {
	opts := db.options()
	if _, err := db.Complete(&m.Token, &opts); err != nil {
		return wal.Appending{}, err
	}
	rec := db.record(m, &opts)
	return wal.Appending{Partition: db.Stream.PartitionOf(rec.RoutingKey), Record: rec, Weight: 1}, nil
}
