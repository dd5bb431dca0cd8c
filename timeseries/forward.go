package timeseries

import "github.com/headwater-db/headwater/wal"

// Forward makes the records of events that come from a log namespace, one for each partition that they touch; the
// caller sets their Origin and appends them. Nobody is asked whether they are copies: their place tells the applier
// (see wal.Source), which judges them by when their message was due. tok has a nonce; its time is made here. Errors:
// as Write, before the log.
func (db *DB) Forward(tok wal.Token, events []Event) ([]wal.Appending, error) {
	opts := db.cfg.Options()
	tok.GenerationTime = 0
	if _, err := db.Complete(&tok, &opts.FrontOptions); err != nil {
		return nil, err
	}
	w := &writing{db: db, opts: opts, tok: tok, hash: hashOf(events)}
	w.split(events)
	w.records()
	return w.as, nil
}
