package counter

import "github.com/headwater-db/headwater/wal"

// Forward makes the records of adds that come from a log namespace, one for each partition that they touch; the caller
// sets their Origin and appends them. Nobody is asked whether they are copies: their place tells the applier (see
// wal.Source). tok has a nonce; its time is made here. a is used up. Errors: as AddCounts, before the log.
func (db *DB) Forward(tok wal.Token, a *Adds) ([]wal.Appending, error) {
	tok.GenerationTime = 0
	return db.Stage(tok, a)
}

// Stage is Forward of adds of a delivery.Group, whose token is complete.
func (db *DB) Stage(tok wal.Token, a *Adds) ([]wal.Appending, error) {
	opts := db.cfg.Options()
	if _, err := db.Complete(&tok, &opts.FrontOptions); err != nil {
		return nil, err
	}
	x := addsCall{db: db, a: a, tok: tok, hash: a.form.Sum(), opts: &opts}
	for p := range a.parts {
		if a.parts[p].adds > 0 {
			x.as = append(x.as, wal.Appending{Partition: wal.Partition(p), Record: x.record(p), Weight: a.parts[p].adds})
		}
	}
	return x.as, nil
}
