package kv

import "github.com/headwater-db/headwater/wal"

// Forward makes the record of a write that comes from a log namespace; the caller sets its Origin and appends it.
// Nobody is asked whether it is a copy: its place tells the applier (see wal.Source). The token's time is made here.
// Errors: as Write, before the log.
func (db *DB) Forward(r *Request) (wal.Appending, error) {
	r.Token.GenerationTime = 0
	return db.Stage(r)
}

// Stage is Forward of a write of a delivery.Group, whose token is complete.
func (db *DB) Stage(r *Request) (wal.Appending, error) {
	opts := db.cfg.Options()
	if err := db.shape(r); err != nil {
		return wal.Appending{}, err
	}
	if _, err := db.Complete(&r.Token, &opts.FrontOptions); err != nil {
		return wal.Appending{}, err
	}
	r.id = IdentityOf(r.Mutations, r.Token.Nonce)
	reqs, all := []*Request{r}, []int{0}
	rec, _ := db.record(reqs, all, db.cfg.Now().UnixMicro(), &opts)
	return wal.Appending{Partition: r.part, Record: rec, Weight: weight(reqs, all)}, nil
}
